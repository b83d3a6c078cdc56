# Targets and their headers. A header belongs to the component that its name says, else to the core:
#   graft/<c>.hpp  graft/<c>/**  graft/view/<c>.hpp  graft/kernels/<c>.hpp   public headers of component <c>
#   graft/executor/<c>.hpp  graft/kernels/<c>/**         internal ones: come only through graft/<c>.hpp
#   graft/detail/**  graft/kernels/host/**               internal ones of the core
#   graft/c/**                                           graft::c, the C interface: a header of C and one source
# Public headers must compile alone (all_verify_interface_header_sets); internal ones may refuse to.
# All are found by glob, so that a new method is one new file.

function(_graft_glob out)
  file(GLOB_RECURSE files CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}" include/graft/*.hpp)
  list(FILTER files INCLUDE REGEX "^include/graft/(${ARGN})$")
  set(${out} "${files}" PARENT_SCOPE)
endfunction()

function(_graft_library target export public internal)
  add_library(${target} INTERFACE)
  add_library(graft::${export} ALIAS ${target})
  target_compile_features(${target} INTERFACE cxx_std_20)
  target_sources(${target} INTERFACE
    FILE_SET HEADERS BASE_DIRS include FILES ${public}
    FILE_SET internal TYPE HEADERS BASE_DIRS include FILES ${internal})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${export} INTERFACE_HEADER_SETS_TO_VERIFY HEADERS)
endfunction()

# graft_core(<component>...): graft::graft, every header that is not a component's. Needs no package.
function(graft_core)
  _graft_glob(public .*)
  _graft_glob(internal "(detail|kernels/host)/.*")
  foreach(spec IN LISTS ARGN)
    string(REGEX REPLACE "\\|.*" "" c "${spec}")
    list(FILTER public EXCLUDE REGEX "^include/graft/((view/|executor/|kernels/)?${c}\\.hpp|(kernels/)?${c}/.*)$")
  endforeach()
  list(REMOVE_ITEM public ${internal})
  _graft_library(graft graft "${public}" "${internal}")
  set_target_properties(graft PROPERTIES VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})
endfunction()

# graft_c_interface(): graft::c, the header for C, and its translation unit as a source of whoever links it. OpenMP is in it where the
# same target links graft::openmp.
function(graft_c_interface)
  _graft_library(graft_c c include/graft/c/graft.h "")
  target_link_libraries(graft_c INTERFACE graft)
  target_sources(graft_c INTERFACE "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include/graft/c/graft.cpp>")
endfunction()

include("${CMAKE_CURRENT_LIST_DIR}/graft_cuda.cmake")

# graft_component("<name>|<arguments of find_package>|<target>[|optional]"): option GRAFT_WITH_<NAME>, target graft::<name>
function(graft_component spec)
  string(REGEX MATCH "^([a-z]+)\\|([^|]+)\\|([^|]+)(\\|optional)?$" matched "${spec}")
  set(c ${CMAKE_MATCH_1})
  set(dependency ${CMAKE_MATCH_3})
  set(wanted ${PROJECT_IS_TOP_LEVEL})
  if(CMAKE_MATCH_4)
    set(wanted OFF)
  endif()
  separate_arguments(package UNIX_COMMAND "${CMAKE_MATCH_2}")
  string(TOUPPER ${c} C)
  option(GRAFT_WITH_${C} "Find what graft::${c} needs, and verify its headers" ${wanted})

  _graft_glob(public "((view|kernels)/)?${c}\\.hpp|${c}/.*")
  _graft_glob(internal "executor/${c}\\.hpp|kernels/${c}/.*")
  _graft_library(graft_${c} ${c} "${public}" "${internal}")
  # By name: a component can be installed where its package is absent; the consumer's find_package finds it.
  target_link_libraries(graft_${c} INTERFACE graft ${dependency})
  set(verify ${PROJECT_IS_TOP_LEVEL})
  if(c STREQUAL "cuda")
    set(verify OFF) # no C++: tests/cuda compiles each header alone
    if(GRAFT_WITH_CUDA)
      graft_cuda_options(graft_cuda)
    endif()
  endif()
  if(GRAFT_WITH_${C})
    find_package(${package} REQUIRED)
    set_target_properties(graft_${c} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ${verify})
  endif()
endfunction()
