#include "kernels/cuda_device_stream.h"

#include <utility>

#include "io/base.h"
#include "kernels/cuda_device.h"
#include "kernels/cuda_graph.h"
#include "kernels/ops_cuda.h"

namespace weir {
namespace {

// More dynamic shared memory a kernel must be allowed to have.
constexpr uint32_t kFreeSharedBytes = 48 * 1024;

}  // namespace

CudaDeviceStream::CudaDeviceStream(CudaState* state, absl::StatusOr<std::unique_ptr<Buffer>> memory)
    : state_(state) {
  if (!memory.ok()) {
    made_ = std::move(memory).status();
    return;
  }
  memory_ = *std::move(memory);
  made_ = Init();
}

absl::Status CudaDeviceStream::Init() {
  state_->MakeCurrent();
  const cudaError_t error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  if (error != cudaSuccess) return CudaErrorStatus(error, "cudaStreamCreateWithFlags");
  events_ = std::make_unique<CudaEvents>(state_);
  WEIR_RETURN_IF_ERROR(events_->Init(stream_));
  mailbox_ = std::make_unique<CudaMailbox>(state_);
  WEIR_RETURN_IF_ERROR(mailbox_->Init());
  if (memory_ != nullptr) {
    WEIR_ASSIGN_OR_RETURN(blas_, state_->blas->NewHandle(stream_, memory_->data(), kCudaBlasBytes));
  }
  watcher_ = std::make_unique<CudaWatcher>(events_.get());
  return watcher_->Start();
}

CudaDeviceStream::~CudaDeviceStream() {
  state_->MakeCurrent();
  if (made_.ok()) Wait(Record());
  // After a failure nobody waits, though what was enqueued before it may still run.
  if (stream_ != nullptr) (void)cudaStreamSynchronize(stream_);
  watcher_.reset();
  mailbox_.reset();
  events_.reset();
  if (blas_ != nullptr) state_->blas->FreeHandle(blas_);
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);  // fails only after other failures
}

absl::Status CudaDeviceStream::status() const {
  return made_.ok() ? state_->failure.status() : made_;
}

bool CudaDeviceStream::BeginEnqueue() {
  if (!made_.ok() || !state_->failure.ok()) return false;
  state_->MakeCurrent();
  is_marked_ = false;
  after_kernel_ = false;
  return true;
}

Event CudaDeviceStream::Record() {
  WEIR_CHECK(!is_recording_);
  if (!made_.ok()) return {};
  if (!is_marked_) {
    state_->MakeCurrent();
    events_->Record();
    is_marked_ = true;
  }
  return {events_->recorded()};
}

bool CudaDeviceStream::IsComplete(Event event) const {
  return !made_.ok() || events_->IsComplete(event.sequence);
}

void CudaDeviceStream::Wait(Event event) {
  if (!made_.ok()) return;
  WEIR_CHECK(event.sequence <= events_->recorded());  // else of another stream: may never come
  events_->Wait(event.sequence);
}

void CudaDeviceStream::NotifyWhenComplete(void (*notify)(void*), void* argument) {
  if (!made_.ok()) return notify(argument);
  watcher_->Notify(Record().sequence, notify, argument);
}

void CudaDeviceStream::WaitFor(Stream& other, Event event) {
  WEIR_CHECK(!is_recording_);
  if (&other == this) return;
  // The kernels' other build has streams of its own that are of this kind (kernels/cuda_stream.h).
  if (other.kind() == kind() && &static_cast<CudaStream&>(other).ops() == &ops()) {
    auto& cuda = static_cast<CudaDeviceStream&>(other);
    if (!cuda.made_.ok() || cuda.events_->IsKnownComplete(event.sequence)) return;
    if (!BeginEnqueue()) return;
    state_->failure.Check(
        cudaStreamWaitEvent(stream_, cuda.events_->EventOf(event.sequence), cudaEventWaitDefault),
        "cudaStreamWaitEvent");
    return;
  }
  if (other.IsComplete(event) || !BeginEnqueue()) return;
  mailbox_->Wait(stream_, other);
}

void CudaDeviceStream::CopyIn(uint8_t* device, const uint8_t* host, uint64_t bytes) {
  Copy(device, host, bytes, cudaMemcpyHostToDevice);
}

void CudaDeviceStream::CopyOut(uint8_t* host, const uint8_t* device, uint64_t bytes) {
  Copy(host, device, bytes, cudaMemcpyDeviceToHost);
}

void CudaDeviceStream::Copy(void* to, const void* from, uint64_t bytes, cudaMemcpyKind kind) {
  WEIR_CHECK(!is_recording_);
  if (bytes == 0 || !BeginEnqueue()) return;
  state_->failure.Check(cudaMemcpyAsync(to, from, bytes, kind, stream_), "cudaMemcpyAsync");
}

std::unique_ptr<Graph> CudaDeviceStream::RecordGraph(absl::FunctionRef<void()> enqueue) {
  WEIR_CHECK(!is_recording_);
  const bool was_marked = is_marked_;
  if (!BeginEnqueue()) return nullptr;
  is_recording_ = true;
  std::unique_ptr<Graph> graph = CudaGraph::Record(state_, stream_, enqueue);
  is_recording_ = false;
  after_kernel_ = false;
  is_marked_ = was_marked;
  return graph;
}

void CudaDeviceStream::RunGraph(const Graph& graph) {
  WEIR_CHECK(!is_recording_);
  if (BeginEnqueue()) static_cast<const CudaGraph&>(graph).Run(stream_);
}

const CudaOps& CudaDeviceStream::ops() const { return cuda::Ops(); }

uint8_t* CudaDeviceStream::scratch() {
  // No op may be called on a stream of copies; one that could not be made has nowhere to run it.
  return memory_ == nullptr ? nullptr : memory_->data() + kCudaBlasBytes;
}

uint64_t CudaDeviceStream::scratch_bytes() const {
  return memory_ == nullptr ? kLeastScratchBytes : memory_->size_bytes() - kCudaBlasBytes;
}

void CudaDeviceStream::Launch(const KernelCall& call, const LaunchShape& shape) {
  WEIR_CHECK(memory_ != nullptr || !made_.ok());  // else a stream of copies
  const bool after_kernel = after_kernel_;
  if (!BeginEnqueue()) return;
  if (shape.shared_bytes > kFreeSharedBytes &&
      !state_->failure.Check(
          cudaFuncSetAttribute(call.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shape.shared_bytes)),
          "cudaFuncSetAttribute")) {
    return;
  }
  void* arguments[] = {const_cast<void*>(call.argument)};
  // Before the end of a kernel only, and never of a copy or of other streams' work: what an early
  // kernel reads ahead may be what those bring.
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(shape.blocks_x, shape.blocks_y);
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream_;
  config.attrs = &early;
  config.numAttrs = shape.early && after_kernel && state_->launches_early ? 1 : 0;
  const cudaError_t error = cudaLaunchKernelExC(&config, call.function, arguments);
  WEIR_CHECK(error != cudaErrorInvalidValue && error != cudaErrorInvalidConfiguration &&
             error != cudaErrorLaunchOutOfResources && error != cudaErrorInvalidDeviceFunction);
  state_->failure.Check(error, "cudaLaunchKernelExC");
  after_kernel_ = true;
}

void CudaDeviceStream::Gemm(const GemmArgs& args) {
  WEIR_CHECK(memory_ != nullptr || !made_.ok());
  if (!BeginEnqueue()) return;
  const absl::Status status = state_->blas->Gemm(blas_, args);
  if (!status.ok()) state_->failure.Set(status);
}

}  // namespace weir
