#include "engine/accelerator_site.h"

#include "io/base.h"

namespace weir {

absl::StatusOr<std::unique_ptr<AcceleratorSite>> AcceleratorSite::Open(
    const AcceleratorOptions& options, const AcceleratorThreads& threads, const Model& model,
    const Plan& plan, const HostMemory& host) {
  std::unique_ptr<AcceleratorSite> site(new AcceleratorSite());
  const AcceleratorPlan& part = *plan.accelerator;
  WEIR_ASSIGN_OR_RETURN(site->device_, MakeAccelerator(options, part.hbm_budget_bytes, threads));
  WEIR_ASSIGN_OR_RETURN(site->memory_, TakeDeviceMemory(*site->device_, model, plan));
  site->compute_ = site->device_->NewStream();
  site->copy_ = site->device_->NewCopyStream();
  site->download_ = site->device_->NewCopyStream();
  site->upload_ = site->device_->NewCopyStream();
  for (const auto* stream : {&site->compute_, &site->copy_, &site->download_, &site->upload_}) {
    WEIR_RETURN_IF_ERROR((*stream)->status());
  }
  for (const auto* buffer : {&host.inputs, &host.logits, &host.products}) {
    WEIR_RETURN_IF_ERROR(site->Pin(**buffer));
  }
  return site;
}

absl::Status AcceleratorSite::Pin(const Buffer& host) {
  WEIR_ASSIGN_OR_RETURN(std::unique_ptr<PinnedRange> range,
                        device_->Pin(host.data(), host.size_bytes()));
  pinned_.push_back(std::move(range));
  return absl::OkStatus();
}

absl::Status AcceleratorSite::Load(uint8_t* device, const uint8_t* host, uint64_t bytes) {
  compute_->CopyIn(device, host, bytes);
  compute_->Wait(compute_->Record());
  return compute_->status();
}

void AcceleratorSite::EndStreams() {
  const auto streams = {&compute_, &copy_, &download_, &upload_};
  // They may wait for each other.
  for (auto* stream : streams) (*stream)->Wait((*stream)->Record());
  for (auto* stream : streams) stream->reset();
}

}  // namespace weir
