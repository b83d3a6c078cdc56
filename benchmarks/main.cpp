// SPDX-License-Identifier: Apache-2.0
#include "support/suite.hpp"

int main(int argc, char** argv) { return bench::run(argc, argv); }
