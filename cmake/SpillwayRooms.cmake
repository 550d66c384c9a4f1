# spw_room(NAME USES room...) builds src/NAME/*.cc into the static library spw_NAME and
# every src/NAME/*_test.cc into one test program spw_NAME_test. Sources are globbed, so a
# new file needs no change here. A room without any .cc file becomes an interface library.
function(spw_room name)
  cmake_parse_arguments(ARG "" "" "USES" ${ARGN})
  set(dir ${CMAKE_SOURCE_DIR}/src/${name})
  file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.cc)
  file(GLOB tests CONFIGURE_DEPENDS ${dir}/*_test.cc)
  file(GLOB benches CONFIGURE_DEPENDS ${dir}/*_bench.cc)
  file(GLOB fuzzers CONFIGURE_DEPENDS ${dir}/*_fuzz.cc)
  list(REMOVE_ITEM sources "" ${tests} ${benches} ${fuzzers})

  if(sources)
    add_library(spw_${name} STATIC ${sources})
    target_link_libraries(spw_${name} PRIVATE spw_warnings spw_core_flags)
    set(scope PUBLIC)
  else()
    add_library(spw_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(spw_${name} ${scope} ${CMAKE_SOURCE_DIR}/src)
  foreach(room IN LISTS ARG_USES)
    target_link_libraries(spw_${name} ${scope} spw_${room})
  endforeach()
  if(EXISTS ${dir}/room.cmake)
    include(${dir}/room.cmake)
  endif()

  if(SPW_TESTS AND tests)
    # room.cmake may set test_labels, e.g. for tests that need a real kernel's help.
    spw_test(spw_${name}_test ${tests} LABELS ${test_labels})
    # The simulated machine is the test bed of every room above the port.
    target_link_libraries(spw_${name}_test PRIVATE spw_${name} spw_machine_sim)
  endif()
  if(SPW_FUZZ)
    foreach(fuzzer IN LISTS fuzzers)
      get_filename_component(stem ${fuzzer} NAME_WE)
      add_executable(${stem} ${fuzzer})
      target_compile_options(${stem} PRIVATE -fsanitize=fuzzer)
      target_link_options(${stem} PRIVATE -fsanitize=fuzzer)
      target_link_libraries(${stem} PRIVATE spw_${name} spw_machine_sim spw_warnings)
    endforeach()
  endif()
endfunction()

# spw_test(TARGET source... [LABELS label...]): a GoogleTest program whose cases ctest knows one
# by one.
function(spw_test target)
  cmake_parse_arguments(ARG "" "" "LABELS" ${ARGN})
  add_executable(${target} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${target} PRIVATE spw_warnings GTest::gtest GTest::gtest_main)
  if(SPW_SANITIZE)
    # Of a sanitizer build the rooms must be fast; unoptimised tests compile twice as fast.
    target_compile_options(${target} PRIVATE -O0)
  endif()
  include(GoogleTest)
  gtest_discover_tests(${target} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300 LABELS "${ARG_LABELS}")
endfunction()
