# The test compares docs/page-states.md with the code.
set_source_files_properties(${dir}/page_test.cc PROPERTIES
  COMPILE_DEFINITIONS "SPW_SOURCE_DIR=\"${CMAKE_SOURCE_DIR}\"")
