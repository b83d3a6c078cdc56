"""Eigen as the distribution installs it, with the name and the targets that ConanCenter's recipe gives it."""
from conan import ConanFile


class SystemEigen(ConanFile):
    name = "eigen"
    package_type = "header-library"

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "Eigen3")
        self.cpp_info.set_property("cmake_target_name", "Eigen3::Eigen")
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
        self.cpp_info.includedirs = ["/usr/include/eigen3"]
