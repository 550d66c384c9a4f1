# The test compares docs/events.md with the code.
set_source_files_properties(${dir}/events_doc_test.cc PROPERTIES
  COMPILE_DEFINITIONS "SPW_SOURCE_DIR=\"${CMAKE_SOURCE_DIR}\"")
