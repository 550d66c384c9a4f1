# spw_embed(OUTPUT NAME FILE...) writes a C++ file that holds the FILEs as text, as the table
# `extern const std::span<const EmbeddedFile> NAME`. Run as a script it does the writing, so that
# the file is made anew when one of them changes.
function(spw_embed output name)
  string(JOIN "|" files ${ARGN})
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} -DNAME=${name} "-DFILES=${files}"
      -P ${CMAKE_SOURCE_DIR}/cmake/SpillwayEmbed.cmake
    DEPENDS ${ARGN} ${CMAKE_SOURCE_DIR}/cmake/SpillwayEmbed.cmake VERBATIM)
endfunction()

if(CMAKE_SCRIPT_MODE_FILE)
  string(REPLACE "|" ";" files "${FILES}")
  list(SORT files)
  set(arrays "")
  set(rows "")
  set(number 0)
  foreach(file IN LISTS files)
    # As numbers: compilers limit the length of texts, and texts would need escapes.
    file(READ ${file} bytes HEX)
    string(LENGTH "${bytes}" length)
    math(EXPR length "${length} / 2")
    string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
    get_filename_component(stem ${file} NAME)
    string(REGEX REPLACE "[.]spw$" "" stem "${stem}")
    string(APPEND arrays "constexpr unsigned char kFile${number}[] = {${bytes}0};\n")
    string(APPEND rows "    {\"${stem}\",
     {reinterpret_cast<const char*>(kFile${number}), ${length}}},\n")
    math(EXPR number "${number} + 1")
  endforeach()
  file(WRITE ${OUTPUT} "#include \"scenario/embedded.h\"

namespace spillway {
namespace {
${arrays}
const EmbeddedFile kFiles[] = {
${rows}};
}  // namespace
const std::span<const EmbeddedFile> ${NAME} = kFiles;
}  // namespace spillway
")
endif()
