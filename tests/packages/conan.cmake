# cmake -DCONAN= -DSOURCE= -DVERSION= -DCXX= -DWORK= -P conan.cmake
# The recipe, offline: exported, packaged and tested (tests/packages/conan) without options and with those whose packages are
# here; a user's conanfile.txt; what must be refused. The distribution's Eigen and nlohmann-json stand for ConanCenter's.
cmake_minimum_required(VERSION 3.23)
set(here "${CMAKE_CURRENT_LIST_DIR}/conan")
file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")
set(ENV{CONAN_HOME} "${WORK}/home")
set(ENV{CXX} "${CXX}")

# run(<sentence expected, or ""> <status expected> <argument>...)
function(run sentence status)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE got OUTPUT_VARIABLE out ERROR_VARIABLE out WORKING_DIRECTORY "${WORK}")
  list(JOIN ARGN " " command)
  string(FIND "${out}" "${sentence}" found)
  if(NOT got STREQUAL status OR found EQUAL -1)
    message(FATAL_ERROR "${command}\nended with ${got}, expected ${status} and '${sentence}':\n${out}")
  endif()
  message(STATUS "${command}: ${sentence}")
endfunction()

run("" 0 "${CONAN}" profile detect)
set(how --no-remote --build=missing -s:a compiler.cppstd=20 -s:a build_type=Release
  -c:a tools.cmake.cmaketoolchain:generator=Ninja -c:a "tools.cmake.cmake_layout:test_folder=${WORK}/test")
run("" 0 "${CONAN}" create "${here}/system/eigen" --version 3.4.0 ${how})
run("" 0 "${CONAN}" create "${here}/system/nlohmann_json" --version 3.11.2 ${how})

run("graft/${VERSION} (test package): RUN" 0 "${CONAN}" create "${SOURCE}" ${how})
set(all -o "&:with_openmp=True" -o "&:with_eigen=True" -o "&:with_io=True")
run("graft/${VERSION} (test package): RUN" 0 "${CONAN}" create "${SOURCE}" ${how} ${all})

# One package for all compilers, systems and options.
run("da39a3ee5e6b4b0d3255bfef95601890afd80709" 0 "${CONAN}" list "graft/${VERSION}:*")

# A user's project.
file(COPY "${here}/consumer/conanfile.txt" DESTINATION "${WORK}/consumer")
run("" 0 "${CONAN}" install "${WORK}/consumer" ${how})
file(GLOB_RECURSE toolchain "${WORK}/consumer/*/conan_toolchain.cmake")
run("" 0 "${CMAKE_COMMAND}" -S "${here}/../consume" -B "${WORK}/consumer/b" -G Ninja "-DCMAKE_TOOLCHAIN_FILE=${toolchain}"
  -DCMAKE_BUILD_TYPE=Release -DROUTE=find_package -DCOMPONENTS=openmp -DEXPECT_C=ON)
run("" 0 "${CMAKE_COMMAND}" --build "${WORK}/consumer/b")
run("right" 0 "${WORK}/consumer/b/consume")

# Refused, in our words or Conan's.
run("Current cppstd (17) is lower than the required C++ standard (20)" 6 "${CONAN}" install --requires "graft/${VERSION}" ${how}
  -s compiler.cppstd=17)
run("graft needs gcc 12 or newer" 6 "${CONAN}" install --requires "graft/${VERSION}" ${how} -s compiler=gcc
  -s compiler.version=11 -s compiler.libcxx=libstdc++11)
