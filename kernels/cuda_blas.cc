#include "kernels/cuda_blas.h"

#include <dlfcn.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

// By soname: the major version stands for the types of cublas_v2.h, which 12 and 13 share.
constexpr const char* kLibraries[] = {
    "libcublas.so.13",
    "libcublas.so.12",
    "/usr/local/cuda/lib64/libcublas.so.13",
    "/usr/local/cuda/lib64/libcublas.so.12",
};

}  // namespace

absl::StatusOr<std::unique_ptr<CudaBlas>> CudaBlas::Load() {
  std::string reasons;
  for (const char* name : kLibraries) {
    // Never closed: it keeps state of the driver's that outlives any device.
    void* const library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      absl::StrAppend(&reasons, "\n  ", dlerror());
      continue;
    }
    std::unique_ptr<CudaBlas> blas(new CudaBlas());
    WEIR_RETURN_IF_ERROR(blas->Find(library));
    return blas;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("cannot load cuBLAS, which prompts need. Install the CUDA toolkit's libcublas, "
                   "or add its folder to LD_LIBRARY_PATH. Tried:",
                   reasons));
}

absl::Status CudaBlas::Find(void* library) {
  const auto find = [library](const char* name, auto* function) {
    *function =
        reinterpret_cast<std::remove_reference_t<decltype(*function)>>(dlsym(library, name));
    if (*function != nullptr) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("the cuBLAS that was found has no ", name, ": install one of CUDA 12 or 13."));
  };
  WEIR_RETURN_IF_ERROR(find("cublasCreate_v2", &create_));
  WEIR_RETURN_IF_ERROR(find("cublasDestroy_v2", &destroy_));
  WEIR_RETURN_IF_ERROR(find("cublasSetStream_v2", &set_stream_));
  WEIR_RETURN_IF_ERROR(find("cublasSetWorkspace_v2", &set_workspace_));
  WEIR_RETURN_IF_ERROR(find("cublasGetStatusString", &status_string_));
  return find("cublasGemmEx", &gemm_ex_);
}

absl::Status CudaBlas::ErrorStatus(cublasStatus_t status, const char* what) const {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  const std::string text = absl::StrCat(what, ": ", status_string_(status));
  if (status == CUBLAS_STATUS_ALLOC_FAILED) return absl::ResourceExhaustedError(text);
  return absl::InternalError(text);
}

absl::StatusOr<cublasHandle_t> CudaBlas::NewHandle(cudaStream_t stream, uint8_t* workspace,
                                                   uint64_t workspace_bytes) const {
  cublasHandle_t handle = nullptr;
  WEIR_RETURN_IF_ERROR(ErrorStatus(create_(&handle), "cublasCreate"));
  // The stream first: setting it puts the default workspace back.
  absl::Status status = ErrorStatus(set_stream_(handle, stream), "cublasSetStream");
  if (status.ok()) {
    status = ErrorStatus(set_workspace_(handle, workspace, workspace_bytes), "cublasSetWorkspace");
  }
  if (status.ok()) return handle;
  FreeHandle(handle);
  return status;
}

void CudaBlas::FreeHandle(cublasHandle_t handle) const {
  (void)destroy_(handle);  // fails only where the device has failed before
}

absl::Status CudaBlas::Gemm(cublasHandle_t handle, const GemmArgs& args) const {
  if (args.m == 0 || args.n == 0) return absl::OkStatus();
  const float one = 1;
  const float zero = 0;
  // cuBLAS is column-major: what it sees as c[n, m] with columns of c_stride is our c[m, n]. Our
  // b[n, k] is its [k, n], to be transposed; our a[m, k] its [k, m].
  return ErrorStatus(
      gemm_ex_(handle, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(args.n), static_cast<int>(args.m),
               static_cast<int>(args.k), &one, args.b, CUDA_R_16F, static_cast<int>(args.b_stride),
               args.a, CUDA_R_16F, static_cast<int>(args.a_stride), &zero, args.c, CUDA_R_32F,
               static_cast<int>(args.c_stride), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
      "cublasGemmEx");
}

}  // namespace weir
