# For graft's own tests, benchmarks and examples; nothing here reaches a consumer.

# What every program of ours is compiled with. Also shows warnings of the headers: they are included plainly.
add_library(graft_developer_flags INTERFACE)
target_compile_options(graft_developer_flags INTERFACE
  $<$<CXX_COMPILER_ID:GNU,Clang,AppleClang>:-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror>)
# g++ 12 is wrong about "text" + std::string (its bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(graft_developer_flags INTERFACE -Wno-restrict)
endif()
target_compile_features(graft_developer_flags INTERFACE cxx_std_20)

if(PROJECT_IS_TOP_LEVEL AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(GRAFT_CCACHE ccache)
  if(GRAFT_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${GRAFT_CCACHE}")
  endif()
endif()

# Our programs use every component: one sentence instead of a missing target. They ask GRAFT_WITH_<NAME> for optional ones.
function(graft_need_components)
  foreach(spec IN LISTS GRAFT_COMPONENTS)
    string(REGEX REPLACE "\\|.*" "" c "${spec}")
    string(TOUPPER ${c} C)
    if(spec MATCHES "\\|optional$")
      if(NOT GRAFT_WITH_${C})
        continue()
      endif()
      target_compile_definitions(graft_developer_flags INTERFACE GRAFT_WITH_${C}=1)
    elseif(NOT GRAFT_WITH_${C})
      message(FATAL_ERROR "graft's tests, benchmarks and examples use graft::${c}: "
        "set GRAFT_WITH_${C}=ON, or GRAFT_BUILD_{TESTS,BENCHMARKS,EXAMPLES,GOLDEN}=OFF")
    endif()
    target_link_libraries(graft_developer_flags INTERFACE graft_${c})
  endforeach()
endfunction()

# graft_sort_components(<out present> <out absent>): names by what GRAFT_WITH_<NAME> says
function(graft_sort_components present absent)
  set(on "")
  set(off "")
  foreach(spec IN LISTS GRAFT_COMPONENTS)
    string(REGEX REPLACE "\\|.*" "" c "${spec}")
    string(TOUPPER ${c} C)
    if(GRAFT_WITH_${C})
      list(APPEND on ${c})
    else()
      list(APPEND off ${c})
    endif()
  endforeach()
  set(${present} "${on}" PARENT_SCOPE)
  set(${absent} "${off}" PARENT_SCOPE)
endfunction()

# graft_program(<target> <source>...): an executable with every component and our warnings
function(graft_program target)
  add_executable(${target} ${ARGN})
  target_link_libraries(${target} PRIVATE graft_developer_flags)
endfunction()

# Host bodies compiled once for all programs of tests and benchmarks, which define GRAFT_HOST_BODIES_ELSEWHERE.
add_library(graft_host_bodies OBJECT EXCLUDE_FROM_ALL "${PROJECT_SOURCE_DIR}/tests/support/host_bodies.cpp")
target_link_libraries(graft_host_bodies PRIVATE graft_developer_flags)

# graft_first_lines(<source> <key> <out>): the texts of lines "// <key>: TEXT" among the first ten of a source
function(graft_first_lines source key out)
  file(STRINGS "${source}" lines LIMIT_COUNT 10)
  list(FILTER lines INCLUDE REGEX "^// ${key}:")
  list(TRANSFORM lines REPLACE "^// ${key}: *$" " ") # no empty text: a list of one is no list
  list(TRANSFORM lines REPLACE "^// ${key}: *" "")
  set(${out} "${lines}" PARENT_SCOPE)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${source}")
endfunction()
