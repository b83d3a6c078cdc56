"""Conan 2 recipe of graft: headers, and one source of the C interface. An option for each component that needs a package; CMake's target names."""
import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, load, save

required_conan_version = ">=2.0"


class Graft(ConanFile):
    name = "graft"
    description = "Math primitives for adapters and routing"
    license = "Apache-2.0"
    topics = ("lora", "adapters", "fine-tuning", "mixture-of-experts", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {
        "with_openmp": [True, False],
        "with_eigen": [True, False],
        "with_kokkos": [True, False],
        "with_cuda": [True, False],
        "with_io": [True, False],
    }
    default_options = {option: False for option in options}
    implements = ["auto_header_only"]
    exports_sources = "include/*", "LICENSE"
    no_copy_source = True
    test_package_folder = "tests/packages/conan"
    _c_source = os.path.join("cmake", "graft_c_source.cmake")

    def set_version(self):
        text = load(self, os.path.join(self.recipe_folder, "include/graft/version.hpp"))
        self.version = ".".join(re.findall(r"#define GRAFT_VERSION_\w+ (\d+)", text))

    def requirements(self):
        if self.options.with_eigen:
            self.requires("eigen/[>=3.4 <6]", transitive_headers=True)
        if self.options.with_kokkos:
            self.requires("kokkos/[>=5 <6]", transitive_headers=True, transitive_libs=True)
        if self.options.with_io:
            self.requires("nlohmann_json/[>=3.11 <4]", transitive_headers=True)

    def validate(self):
        check_min_cppstd(self, 20)
        compiler = str(self.settings.compiler)
        oldest = {"gcc": 12, "clang": 17}.get(compiler)
        if oldest and int(str(self.settings.compiler.version).split(".")[0]) < oldest:
            raise ConanInvalidConfiguration(f"graft needs {compiler} {oldest} or newer")
        if self.options.with_openmp and compiler == "apple-clang":
            raise ConanInvalidConfiguration("graft's option with_openmp: apple-clang has no OpenMP of its own")

    def package(self):
        for pattern in ("*.hpp", "graft/c/*"):
            copy(self, pattern, os.path.join(self.source_folder, "include"), os.path.join(self.package_folder, "include"))
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        # Whoever links graft::c compiles its source, which no attribute of cpp_info says to CMakeDeps.
        save(self, os.path.join(self.package_folder, self._c_source), """\
if(TARGET graft::c)
  get_filename_component(_graft_c "${CMAKE_CURRENT_LIST_DIR}/../include/graft/c/graft.cpp" ABSOLUTE)
  set_property(TARGET graft::c PROPERTY INTERFACE_SOURCES "${_graft_c}")
  unset(_graft_c)
endif()
""")

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "graft")
        self.cpp_info.set_property("pkg_config_name", "graft-all")  # of all components together

        def component(name, *requires):
            c = self.cpp_info.components[name]
            c.set_property("cmake_target_name", f"graft::{name}")
            c.set_property("pkg_config_name", "graft" if name == "graft" else f"graft-{name}")
            c.bindirs, c.libdirs = [], []
            c.requires = list(requires)
            return c

        self.cpp_info.set_property("cmake_build_modules", [self._c_source])
        component("graft")
        component("c", "graft")
        if self.options.with_openmp:
            c = component("openmp", "graft")
            flag = "-openmp" if self.settings.compiler == "msvc" else "-fopenmp"
            c.cxxflags = [flag]
            if flag == "-fopenmp":
                c.exelinkflags = c.sharedlinkflags = [flag]
        if self.options.with_eigen:
            component("eigen", "graft", "eigen::eigen")
        if self.options.with_kokkos:
            component("kokkos", "graft", "kokkos::kokkos")
        if self.options.with_cuda:  # with the toolkit of the machine; files of CUDA need nvcc's --expt-relaxed-constexpr
            component("cuda", "graft").system_libs = ["cudart"]
        if self.options.with_io:
            component("io", "graft", "nlohmann_json::nlohmann_json")
