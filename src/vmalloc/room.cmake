# The test replays the fuzzer's corpus.
set_source_files_properties(${dir}/alloc_ops_test.cc PROPERTIES
  COMPILE_DEFINITIONS "SPW_SOURCE_DIR=\"${CMAKE_SOURCE_DIR}\"")
