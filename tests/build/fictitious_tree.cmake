# cmake -DROOT=include/graft -DCOMPONENTS=a,b -DFICTITIOUS=tests/fictitious -DWORK=DIR -P fictitious_tree.cmake
# Puts the made-up method and the made-up backends of tests/fictitious to where real ones lie, in a copy of include/graft:
# the checks of the tree ask for the method's line in its umbrella and for nothing else.
cmake_policy(VERSION 3.23)

# expect(<script> <regex, or "" for no complaint>)
function(expect script regex)
  execute_process(COMMAND "${CMAKE_COMMAND}" "-DROOT=${WORK}/graft" "-DCOMPONENTS=${COMPONENTS},roundabout"
    -P "${CMAKE_CURRENT_LIST_DIR}/${script}.cmake" RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  if(NOT ((regex STREQUAL "" AND status EQUAL 0) OR (NOT regex STREQUAL "" AND NOT status EQUAL 0 AND output MATCHES "${regex}")))
    message(SEND_ERROR "${script}: wanted '${regex}', got ${status}: ${output}")
  endif()
endfunction()

foreach(file IN ITEMS spotlight.hpp backends.hpp)
  file(READ "${FICTITIOUS}/${file}" text)
  if(text MATCHES "detail::|GRAFT_")
    message(SEND_ERROR "${file} uses what is private to graft")
  endif()
endforeach()

file(REMOVE_RECURSE "${WORK}")
file(COPY "${ROOT}" DESTINATION "${WORK}")
file(COPY "${FICTITIOUS}/spotlight.hpp" DESTINATION "${WORK}/graft/adapters")
# As a component: its entry header, and what comes only through that.
file(READ "${FICTITIOUS}/backends.hpp" text)
file(WRITE "${WORK}/graft/executor/roundabout.hpp" "${text}")
file(WRITE "${WORK}/graft/roundabout.hpp" "#include <graft/graft.hpp>\n#include <graft/executor/roundabout.hpp>\n")
expect(layering "")
expect(umbrellas "lacks the line #include <graft/adapters/spotlight.hpp> .*umbrellas: 1 wrong")

file(READ "${WORK}/graft/adapters.hpp" text)
string(REPLACE "#include <graft/adapters/vera.hpp>" "#include <graft/adapters/spotlight.hpp>\n#include <graft/adapters/vera.hpp>"
  text "${text}")
file(WRITE "${WORK}/graft/adapters.hpp" "${text}")
expect(layering "")
expect(umbrellas "")

# A method that names it.
file(APPEND "${WORK}/graft/adapters/spotlight.hpp" "inline graft::roundabout const here;\n")
expect(layering "names the backend 'roundabout'")
file(REMOVE_RECURSE "${WORK}")
