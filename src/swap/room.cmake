# The static LZ4: the preload library must not drag a shared one into every program.
find_library(SPW_LZ4 NAMES liblz4.a REQUIRED)
target_link_libraries(spw_swap PUBLIC ${SPW_LZ4})
