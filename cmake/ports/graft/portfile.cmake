set(VCPKG_BUILD_TYPE release) # header-only port
# SHA512 is that of the release's archive, REPO its place; 0 and a placeholder until there is one. Before that, of a clone:
# vcpkg install graft --overlay-ports=cmake/ports with vcpkg_from_github replaced by set(SOURCE_PATH ...).
vcpkg_from_github(
    OUT_SOURCE_PATH SOURCE_PATH
    REPO graft/graft
    REF "v${VERSION}"
    SHA512 0
    HEAD_REF main
)
# Every component is installed whatever the features are: they only bring along the packages that a component needs.
vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS
        -DGRAFT_BUILD_TESTS=OFF
        -DGRAFT_BUILD_BENCHMARKS=OFF
        -DGRAFT_BUILD_EXAMPLES=OFF
        -DGRAFT_WITH_OPENMP=OFF
        -DGRAFT_WITH_EIGEN=OFF
        -DGRAFT_WITH_IO=OFF
        -DGRAFT_INSTALL=ON
        "-DGRAFT_CMAKE_DIR=share/${PORT}"
)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup()
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/doc")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
