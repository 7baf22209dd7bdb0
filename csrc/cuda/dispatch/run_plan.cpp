// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/dispatch/run_plan.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/dispatch/paths.h"

namespace dcnv2::cuda {

namespace {

// Read once, since getenv for each pass would be measurable.
bool prints_plans() {
  static const bool prints = [] {
    const char* value = std::getenv("DCNV2_PRINT_PLANS");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return prints;
}

void print_plan(const PassPlan& plan, const Tensor& input) {
  std::fprintf(stderr, "dcnv2: %s of input %s %s: %s", plan.pass, text(sizes_of(input)).c_str(),
               toString(input.scalar_type()), path_name(plan.path));
  if (plan.tile_cols > 0) std::fprintf(stderr, ", %d columns a tile", plan.tile_cols);
  std::fprintf(stderr, ", %zu bytes of packed weight, %zu bytes of workspace\n", plan.packed_weight,
               plan.workspace);
}

}  // namespace

void run_plan(const PassPlan& plan, const Tensor& input, cudaStream_t stream) {
  if (prints_plans()) print_plan(plan, input);
  if (plan.workspace == 0) return plan.launch(nullptr, stream);
  const Tensor workspace = new_workspace(input, plan.workspace);
  plan.launch(workspace.data_ptr(), stream);
}

}  // namespace dcnv2::cuda
