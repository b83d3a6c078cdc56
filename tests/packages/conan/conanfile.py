"""Builds and runs ../consume with the components that the package was made with."""
import os

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout


class GraftTest(ConanFile):
    settings = "os", "arch", "compiler", "build_type"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        options = self.dependencies["graft"].options
        components = [c for c in ("openmp", "eigen", "kokkos", "io") if options.get_safe(f"with_{c}")]
        toolchain.cache_variables["ROUTE"] = "find_package"
        toolchain.cache_variables["COMPONENTS"] = ",".join(components)
        toolchain.cache_variables["EXPECT_C"] = "ON"
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure(build_script_folder="../consume")
        cmake.build()

    def test(self):
        if can_run(self):
            self.run(os.path.join(self.cpp.build.bindir, "consume"), env="conanrun")
