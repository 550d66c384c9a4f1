# The test compares docs/scenario-language.md with the code.
set_source_files_properties(${dir}/scenario_test.cc PROPERTIES
  COMPILE_DEFINITIONS "SPW_SOURCE_DIR=\"${CMAKE_SOURCE_DIR}\"")
