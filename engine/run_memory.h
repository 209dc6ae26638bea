// The memory of a run beside weights: what it takes on the host and on the accelerator, for the
// budget, and taking it. Everything is taken when the engine opens and nothing later.
#ifndef WEIR_ENGINE_RUN_MEMORY_H_
#define WEIR_ENGINE_RUN_MEMORY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/host_products.h"
#include "engine/model.h"
#include "engine/workspace.h"
#include "kernels/device.h"
#include "tiering/plan.h"

namespace weir {

WorkspaceShape WorkspaceShapeOf(const RunShape& shape);
// Of what the CPU computes for an accelerator in passes of up to `in_place_tokens`; none when 0.
HostProductsShape HostProductsShapeOf(const RunShape& shape, uint32_t in_place_tokens);

// On the host: without an accelerator, and beside one. `threads`: of all devices whose workers have
// scratch memory on the host.
OverheadBytes HostOverhead(const Model& model, const RunShape& shape, uint32_t threads);
OverheadBytes HostOverheadBesideAccelerator(const Model& model, const RunShape& shape,
                                            uint32_t threads, uint32_t in_place_tokens);
// On the accelerator, but for the scratch.
DeviceOverheadBytes DeviceOverhead(const Model& model, const RunShape& shape,
                                   uint32_t in_place_tokens);

// Owned; page-aligned. Parts that the run does not use are a page.
struct HostMemory {
  std::unique_ptr<Buffer> ring;
  std::unique_ptr<Buffer> arena;
  std::unique_ptr<Buffer> small;
  std::unique_ptr<Buffer> inputs;
  // Without an accelerator:
  std::unique_ptr<Buffer> kv;
  std::unique_ptr<Buffer> workspace;
  // With one:
  std::unique_ptr<Buffer> logits;
  std::unique_ptr<Buffer> products;

  // The largest part, for use before the run begins.
  Buffer& largest() const;
  // Moves all parts there.
  void MoveTo(std::vector<std::unique_ptr<Buffer>>* buffers);
};

// `cpu` is the CPU device. ResourceExhausted as Device::Allocate.
absl::StatusOr<HostMemory> TakeHostMemory(Device& cpu, const Model& model, const Plan& plan);

// One allocation of the accelerator's memory, and its parts: views.
struct DeviceMemoryParts {
  std::unique_ptr<Buffer> all;
  uint8_t* small = nullptr;
  uint8_t* kv = nullptr;
  uint8_t* workspace = nullptr;
  uint8_t* products = nullptr;
  uint8_t* inputs = nullptr;
  uint8_t* ring = nullptr;
  uint8_t* arena = nullptr;
};
absl::StatusOr<DeviceMemoryParts> TakeDeviceMemory(Device& accelerator, const Model& model,
                                                   const Plan& plan);

}  // namespace weir

#endif  // WEIR_ENGINE_RUN_MEMORY_H_
