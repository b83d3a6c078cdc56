# Install rules, the CMake package and the pkg-config file. Nothing installed names an absolute path.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(GRAFT_CMAKE_DIR "${CMAKE_INSTALL_DATAROOTDIR}/cmake/graft" CACHE STRING "Folder of graft's CMake package in the prefix")

# One export set a component, so that a missing dependency of one does not spoil the others.
target_sources(graft_c INTERFACE "$<INSTALL_INTERFACE:$<INSTALL_PREFIX>/${CMAKE_INSTALL_INCLUDEDIR}/graft/c/graft.cpp>")
install(TARGETS graft graft_c EXPORT graft-graft FILE_SET HEADERS FILE_SET internal)
install(FILES include/graft/c/graft.cpp DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/graft/c")
install(EXPORT graft-graft NAMESPACE graft:: FILE graft-graft.cmake DESTINATION "${GRAFT_CMAKE_DIR}")
foreach(spec IN LISTS GRAFT_COMPONENTS)
  string(REGEX REPLACE "\\|.*" "" c "${spec}")
  install(TARGETS graft_${c} EXPORT graft-${c} FILE_SET HEADERS FILE_SET internal)
  install(EXPORT graft-${c} NAMESPACE graft:: FILE graft-${c}.cmake DESTINATION "${GRAFT_CMAKE_DIR}")
endforeach()

configure_package_config_file(cmake/graftConfig.cmake.in graftConfig.cmake INSTALL_DESTINATION "${GRAFT_CMAKE_DIR}"
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break; a header-only package fits every architecture.
write_basic_package_version_file(graftConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES cmake/graft_cuda.cmake DESTINATION "${GRAFT_CMAKE_DIR}")
install(FILES "${PROJECT_BINARY_DIR}/graftConfig.cmake" "${PROJECT_BINARY_DIR}/graftConfigVersion.cmake"
  DESTINATION "${GRAFT_CMAKE_DIR}")
configure_file(cmake/graft.pc.in graft.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/graft.pc" DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/pkgconfig")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/doc/graft")
