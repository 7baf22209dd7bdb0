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

void print_plan(const PassPlan& plan, bool packed, const Tensor& input) {
  const Shape sizes = sizes_of(input);
  std::ostringstream line;
  line << "dcnv2: " << plan.pass << " of input " << text(sizes) << " "
       << toString(input.scalar_type()) << ": " << path_name(plan.path);
  if (plan.tile_cols > 0) line << ", " << plan.tile_cols << " columns a tile";
  line << ", " << (plan.weight ? plan.weight->bytes : 0) << " bytes of packed weight"
       << (packed ? " of the pass before" : "") << ", " << plan.workspace
       << " bytes of workspace\n";
  std::fputs(line.str().c_str(), stderr);
}

}  // namespace

void PassRunner::run(const PassPlan& plan) {
  const bool pack = plan.weight && !(packed_ && packed_->serves(plan.weight->layout));
  if (prints_plans()) print_plan(plan, plan.weight && !pack, input_);
  if (pack) {
    packed_ = plan.weight->layout;
    weight_.reset();
    weight_ = new_workspace(input_, plan.weight->bytes);
    plan.weight->pack(weight_->data_ptr(), stream_);
  }
  OptionalTensor workspace;
  if (plan.workspace > 0) workspace = new_workspace(input_, plan.workspace);
  plan.launch({.weight = plan.weight ? weight_->data_ptr() : nullptr,
               .workspace = workspace ? workspace->data_ptr() : nullptr},
              stream_);
}

}  // namespace dcnv2::cuda
