// AcceleratorSite: the accelerator of a run: the device, its memory in one allocation, its streams,
// and what of the host's memory is pinned for it all the time.
#ifndef WEIR_ENGINE_ACCELERATOR_SITE_H_
#define WEIR_ENGINE_ACCELERATOR_SITE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/accelerator.h"
#include "engine/model.h"
#include "engine/run_memory.h"
#include "kernels/device.h"
#include "tiering/plan.h"

namespace weir {

// One thread.
class AcceleratorSite {
 public:
  // Takes the memory of the plan, and pins `host`'s parts that go back and forth in every pass;
  // `host` outlives the site. Errors as MakeAccelerator, Device::Allocate and Device::Pin.
  static absl::StatusOr<std::unique_ptr<AcceleratorSite>> Open(const AcceleratorOptions& options,
                                                               const AcceleratorThreads& threads,
                                                               const Model& model, const Plan& plan,
                                                               const HostMemory& host);

  Device& device() const { return *device_; }
  const DeviceMemoryParts& memory() const { return memory_; }
  Stream& compute() const { return *compute_; }
  Stream& copy() const { return *copy_; }  // weights
  // Activations to the CPU and back, where the plan has steps for it.
  Stream& download() const { return *download_; }
  Stream& upload() const { return *upload_; }

  // Copies `bytes` of host memory, which need not be pinned, and waits for it.
  absl::Status Load(uint8_t* device, const uint8_t* host, uint64_t bytes);
  // Waits for everything enqueued, notifications included; the streams are gone then.
  void EndStreams();

 private:
  AcceleratorSite() = default;
  absl::Status Pin(const Buffer& host);

  // Destroyed from the last to the first: streams wait for their work.
  std::unique_ptr<Device> device_;
  DeviceMemoryParts memory_;
  std::vector<std::unique_ptr<PinnedRange>> pinned_;
  std::unique_ptr<Stream> compute_;
  std::unique_ptr<Stream> copy_;
  std::unique_ptr<Stream> download_;
  std::unique_ptr<Stream> upload_;
};

}  // namespace weir

#endif  // WEIR_ENGINE_ACCELERATOR_SITE_H_
