#include "kernels/cuda_device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/cuda_device_stream.h"
#include "kernels/cuda_probe.h"
#include "kernels/cuda_state.h"
#include "kernels/cuda_stream.h"
#include "kernels/memory_budget.h"
#include "kernels/pinned_ranges.h"

namespace weir {
namespace {

constexpr uint64_t kNaturalAlignmentBytes = 256;  // of cudaMalloc
constexpr unsigned kWaitValueVersion = 12000;     // CUDA from which cuStreamWaitValue32 is wanted

std::string VersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

// What cudaGetDeviceCount's error means to a user.
absl::Status NoDevicesStatus(cudaError_t error) {
  int driver = 0;
  int runtime = 0;
  (void)cudaDriverGetVersion(&driver);  // 0: there is none
  (void)cudaRuntimeGetVersion(&runtime);
  const std::string reason = absl::StrCat(" (", cudaGetErrorName(error), ")");
  if (driver == 0) {
    return absl::UnavailableError(absl::StrCat(
        "no NVIDIA driver is installed here (libcuda.so.1 was not found). Install one that "
        "supports CUDA ",
        VersionText(runtime),
        " or later, in a container start it with the GPU passed through, "
        "or use --device cpu",
        reason));
  }
  if (error == cudaErrorInsufficientDriver) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the NVIDIA driver is too old: it supports CUDA ", VersionText(driver),
        ", this weir needs ", VersionText(runtime), ". Update the driver, build weir with CUDA ",
        VersionText(driver), ", or use --device cpu", reason));
  }
  if (error == cudaErrorNoDevice) {
    return absl::UnavailableError(
        absl::StrCat("the NVIDIA driver shows no GPU. See what nvidia-smi says and whether "
                     "CUDA_VISIBLE_DEVICES hides it, or use --device cpu",
                     reason));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the NVIDIA driver does not work: ", cudaGetErrorString(error), reason,
                   ". See what nvidia-smi says, or use --device cpu"));
}

absl::StatusOr<int> CountDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return NoDevicesStatus(error);
  if (count == 0) return NoDevicesStatus(cudaErrorNoDevice);
  return count;
}

// Makes the device current for this thread, with a context on it.
absl::StatusOr<CudaDeviceInfo> Open(int ordinal) {
  const auto failed = [&](cudaError_t error, const char* call) {
    return CudaErrorStatus(error, absl::StrCat("cannot use cuda:", ordinal, ": ", call));
  };
  cudaError_t error = cudaSetDevice(ordinal);
  if (error != cudaSuccess) return failed(error, "cudaSetDevice");
  cudaDeviceProp properties;
  error = cudaGetDeviceProperties(&properties, ordinal);
  if (error != cudaSuccess) return failed(error, "cudaGetDeviceProperties");
  char pci_bus[32] = "";
  error = cudaDeviceGetPCIBusId(pci_bus, sizeof(pci_bus), ordinal);
  if (error != cudaSuccess) return failed(error, "cudaDeviceGetPCIBusId");
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  error = cudaMemGetInfo(&free_bytes, &total_bytes);
  if (error != cudaSuccess) return failed(error, "cudaMemGetInfo");
  int driver = 0;
  int runtime = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  return CudaDeviceInfo{.ordinal = static_cast<uint32_t>(ordinal),
                        .name = properties.name,
                        .pci_bus = pci_bus,
                        .total_bytes = total_bytes,
                        .free_bytes = free_bytes,
                        .compute_major = static_cast<uint32_t>(properties.major),
                        .compute_minor = static_cast<uint32_t>(properties.minor),
                        .multiprocessors = static_cast<uint32_t>(properties.multiProcessorCount),
                        .driver_version = static_cast<uint32_t>(driver),
                        .runtime_version = static_cast<uint32_t>(runtime)};
}

absl::Status CheckKernels(const CudaDeviceInfo& info) {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, cuda::ProbeFunction());
  if (error == cudaSuccess) return absl::OkStatus();
  (void)cudaGetLastError();
  const std::string architecture = absl::StrCat(info.compute_major, info.compute_minor);
  return absl::FailedPreconditionError(absl::StrCat(
      "this weir holds no kernels that ", info.name, " (sm_", architecture,
      ") can run: ", cudaGetErrorString(error),
      ". Build it with -DWEIR_CUDA_ARCHITECTURES=", architecture, ", or use --device cpu"));
}

// Code of capability 9 has the instruction by which an early kernel waits; older code, which the
// driver can translate for a newer GPU, has not.
bool LaunchesEarly() {
  cudaFuncAttributes attributes = {};
  return cudaFuncGetAttributes(&attributes, cuda::ProbeFunction()) == cudaSuccess &&
         attributes.ptxVersion >= 90;
}

absl::StatusOr<PFN_cuStreamWaitValue32_v11070> FindWaitValue() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error = cudaGetDriverEntryPointByVersion(
      "cuStreamWaitValue32", &function, kWaitValueVersion, cudaEnableDefault, &found);
  if (error != cudaSuccess) return CudaErrorStatus(error, "cudaGetDriverEntryPointByVersion");
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    return absl::FailedPreconditionError(
        "the NVIDIA driver has no cuStreamWaitValue32, by which the GPU waits for the CPU. Update "
        "the driver, or use --device cpu");
  }
  return reinterpret_cast<PFN_cuStreamWaitValue32_v11070>(function);
}

absl::StatusOr<uint64_t> BudgetBytes(const CudaDeviceOptions& options, const CudaDeviceInfo& info) {
  if (options.memory_bytes == 0 && info.free_bytes > kCudaMarginBytes) {
    return info.free_bytes - kCudaMarginBytes;
  }
  if (options.memory_bytes != 0 && options.memory_bytes <= info.free_bytes) {
    return options.memory_bytes;
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "cannot use ",
      options.memory_bytes == 0
          ? std::string("what is free")
          : absl::StrCat(FormatBytes(options.memory_bytes), " (", options.memory_bytes, " bytes)"),
      " of cuda:", info.ordinal, ": ", FormatBytes(info.free_bytes), " of ",
      FormatBytes(info.total_bytes), " are free. ",
      info.free_bytes > kCudaMarginBytes
          ? absl::StrCat("Pass --hbm ", (info.free_bytes - kCudaMarginBytes) / kMiB,
                         "MiB or less, or end other programs that use the GPU")
          : std::string("End other programs that use the GPU, or use --device cpu")));
}

class CudaBuffer final : public Buffer {
 public:
  CudaBuffer(void* memory, uint64_t taken_bytes, uint8_t* data, uint64_t size_bytes,
             MemoryBudget* budget)
      : memory_(memory),
        taken_bytes_(taken_bytes),
        data_(data),
        size_bytes_(size_bytes),
        budget_(budget) {}
  ~CudaBuffer() override {
    (void)cudaFree(memory_);  // fails only where the device has failed before
    budget_->Return(taken_bytes_);
  }
  uint8_t* data() const override { return data_; }
  uint64_t size_bytes() const override { return size_bytes_; }

 private:
  void* const memory_;  // of taken_bytes_, with room for the alignment
  const uint64_t taken_bytes_;
  uint8_t* const data_;
  const uint64_t size_bytes_;
  MemoryBudget* const budget_;
};

class CudaPinnedRange final : public PinnedRange {
 public:
  CudaPinnedRange(CudaState* state, PinnedRanges* ranges, uint8_t* data)
      : state_(state), ranges_(ranges), data_(data) {}
  ~CudaPinnedRange() override {
    state_->MakeCurrent();
    (void)cudaHostUnregister(data_);  // fails only where the device has failed before
    ranges_->Remove(data_);
  }

 private:
  CudaState* const state_;
  PinnedRanges* const ranges_;
  uint8_t* const data_;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(const CudaDeviceInfo& info, uint64_t budget_bytes, uint64_t scratch_bytes)
      : name_(absl::StrCat("cuda:", info.ordinal, " (", info.name, ", sm_", info.compute_major,
                           info.compute_minor, ", ", FormatBytes(info.total_bytes), ")")),
        scratch_bytes_(scratch_bytes),
        budget_(absl::StrCat("cuda:", info.ordinal), budget_bytes) {
    state_.ordinal = static_cast<int>(info.ordinal);
    state_.multiprocessors = info.multiprocessors;
  }
  ~CudaDevice() override {
    state_.MakeCurrent();
    if (fill_stream_ != nullptr) (void)cudaStreamDestroy(fill_stream_);
  }
  absl::Status Init();

  DeviceKind kind() const override { return DeviceKind::kCuda; }
  std::string name() const override { return name_; }
  std::unique_ptr<Stream> NewStream() override {
    return std::make_unique<CudaDeviceStream>(
        &state_, Allocate(kCudaBlasBytes + scratch_bytes_, kNaturalAlignmentBytes, Touch::kNow));
  }
  std::unique_ptr<Stream> NewCopyStream() override {
    return std::make_unique<CudaDeviceStream>(&state_, std::unique_ptr<Buffer>());
  }
  DeviceMemory memory() const override { return budget_.memory(); }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(uint64_t bytes, uint64_t alignment_bytes,
                                                   Touch touch) override;
  absl::StatusOr<std::unique_ptr<PinnedRange>> Pin(uint8_t* data, uint64_t bytes) override;

 private:
  // The driver has less than the budget said.
  absl::Status NoMemoryStatus(cudaError_t error, uint64_t bytes) const;

  const std::string name_;
  const uint64_t scratch_bytes_;
  CudaState state_;
  MemoryBudget budget_;
  PinnedRanges pinned_;
  cudaStream_t fill_stream_ = nullptr;  // makes new memory zeros
};

absl::Status CudaDevice::Init() {
  state_.launches_early = LaunchesEarly();
  WEIR_ASSIGN_OR_RETURN(state_.wait_value, FindWaitValue());
  WEIR_ASSIGN_OR_RETURN(state_.blas, CudaBlas::Load());
  const cudaError_t error = cudaStreamCreateWithFlags(&fill_stream_, cudaStreamNonBlocking);
  if (error != cudaSuccess) return CudaErrorStatus(error, "cudaStreamCreateWithFlags");
  return absl::OkStatus();
}

absl::Status CudaDevice::NoMemoryStatus(cudaError_t error, uint64_t bytes) const {
  (void)cudaGetLastError();  // running out is no failure of the device
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  (void)cudaMemGetInfo(&free_bytes, &total_bytes);
  const DeviceMemory budget = budget_.memory();
  return absl::ResourceExhaustedError(absl::StrCat(
      "cannot allocate ", FormatBytes(bytes), " (", bytes, " bytes) on cuda:", state_.ordinal, ": ",
      cudaGetErrorString(error), "; ", FormatBytes(free_bytes), " of ", FormatBytes(total_bytes),
      " are free, since other programs use the GPU too. Pass --hbm ",
      (budget.total_bytes - budget.free_bytes - bytes + free_bytes) / kMiB,
      "MiB or less, or end them."));
}

absl::StatusOr<std::unique_ptr<Buffer>> CudaDevice::Allocate(uint64_t bytes,
                                                             uint64_t alignment_bytes, Touch) {
  WEIR_CHECK(alignment_bytes != 0 && (alignment_bytes & (alignment_bytes - 1)) == 0);
  const uint64_t slack = std::max(alignment_bytes, kNaturalAlignmentBytes) - kNaturalAlignmentBytes;
  WEIR_RETURN_IF_ERROR(budget_.Take(std::max<uint64_t>(bytes, 1), slack));
  const uint64_t taken = std::max<uint64_t>(bytes, 1) + slack;
  state_.MakeCurrent();
  void* memory = nullptr;
  cudaError_t error = cudaMalloc(&memory, taken);
  if (error != cudaSuccess) {
    const absl::Status status = error == cudaErrorMemoryAllocation
                                    ? NoMemoryStatus(error, bytes)
                                    : CudaErrorStatus(error, "cudaMalloc");
    budget_.Return(taken);
    return status;
  }
  const uint64_t begin = AlignUp(reinterpret_cast<uint64_t>(memory), alignment_bytes);
  auto buffer = std::make_unique<CudaBuffer>(memory, taken, reinterpret_cast<uint8_t*>(begin),
                                             bytes, &budget_);
  error = cudaMemsetAsync(memory, 0, taken, fill_stream_);
  if (error == cudaSuccess) error = cudaStreamSynchronize(fill_stream_);
  if (error != cudaSuccess) return CudaErrorStatus(error, "cudaMemsetAsync of new memory");
  return buffer;
}

absl::StatusOr<std::unique_ptr<PinnedRange>> CudaDevice::Pin(uint8_t* data, uint64_t bytes) {
  WEIR_RETURN_IF_ERROR(pinned_.Add(data, bytes));
  state_.MakeCurrent();
  const cudaError_t error =
      cudaHostRegister(data, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
  if (error == cudaSuccess) return std::make_unique<CudaPinnedRange>(&state_, &pinned_, data);
  (void)cudaGetLastError();
  pinned_.Remove(data);
  const absl::Status status =
      CudaErrorStatus(error, absl::StrCat("cannot pin ", FormatBytes(bytes), " (", bytes,
                                          " bytes) of memory: cudaHostRegister"));
  if (error == cudaErrorHostMemoryAlreadyRegistered) {
    return absl::AlreadyExistsError(status.message());
  }
  if (error != cudaErrorMemoryAllocation) return status;
  return absl::ResourceExhaustedError(
      absl::StrCat(status.message(), ". Pass a smaller --dram, or see ulimit -l."));
}

}  // namespace

absl::StatusOr<std::vector<CudaDeviceInfo>> ListCudaDevices() {
  WEIR_ASSIGN_OR_RETURN(const int count, CountDevices());
  int before = 0;
  (void)cudaGetDevice(&before);
  std::vector<CudaDeviceInfo> devices;
  for (int i = 0; i < count; ++i) {
    WEIR_ASSIGN_OR_RETURN(CudaDeviceInfo info, Open(i));
    devices.push_back(std::move(info));
  }
  (void)cudaSetDevice(before);
  return devices;
}

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(const CudaDeviceOptions& options) {
  if (options.scratch_bytes < CudaStream::kLeastScratchBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a CUDA device's scratch_bytes are at least ",
                                                   CudaStream::kLeastScratchBytes, ", not ",
                                                   options.scratch_bytes, "."));
  }
  WEIR_ASSIGN_OR_RETURN(const int count, CountDevices());
  if (options.ordinal >= static_cast<uint32_t>(count)) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no cuda:", options.ordinal, ": this machine has ", count,
                     count == 1 ? " GPU" : " GPUs", ", numbered from 0."));
  }
  WEIR_ASSIGN_OR_RETURN(const CudaDeviceInfo info, Open(static_cast<int>(options.ordinal)));
  WEIR_RETURN_IF_ERROR(CheckKernels(info));
  WEIR_ASSIGN_OR_RETURN(const uint64_t budget_bytes, BudgetBytes(options, info));
  auto device = std::make_unique<CudaDevice>(info, budget_bytes, options.scratch_bytes);
  WEIR_RETURN_IF_ERROR(device->Init());
  return device;
}

}  // namespace weir
