// SPDX-License-Identifier: BSD-3-Clause
// The provenance of a library as JSON, for the doctor and the reports.
#pragma once

#include <torch/headeronly/version.h>

#ifndef DCNV2_CSRC_DIGEST
#define DCNV2_CSRC_DIGEST "unknown"  // compiled by hand, without setup.py
#endif

#if defined(__clang__)
#define DCNV2_COMPILER "clang " __clang_version__
#else
#define DCNV2_COMPILER "gcc " __VERSION__
#endif

// A JSON object as one string literal. `library` and the further members in `more` (each beginning
// with a comma) are string literals.
#define DCNV2_BUILD_INFO(library, more)                                                         \
  "{\"library\":\"" library "\",\"compiler\":\"" DCNV2_COMPILER "\",\"torch\":\"" TORCH_VERSION \
  "\",\"csrc\":\"" DCNV2_CSRC_DIGEST "\"" more "}"

#define DCNV2_EXPORT extern "C" __attribute__((visibility("default")))
