# The library that knows the formats; see docs/dependencies.md.
target_link_libraries(spw_fs_ext PUBLIC ext2fs com_err)
