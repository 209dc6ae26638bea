// The CUDA implementation of every op of kernels/ops.h: the contracts are those of ops.h, one
// op_<family>_cuda.cu each. Declared in the namespace of the build (kernels/cuda_namespace.h).
#ifndef WEIR_KERNELS_OPS_CUDA_H_
#define WEIR_KERNELS_OPS_CUDA_H_

#include "kernels/cuda_namespace.h"
#include "kernels/cuda_stream.h"

namespace weir::WEIR_CUDA_NAMESPACE {

void QuantizeActivationsCuda(CudaStream& stream, const QuantizeActivationsArgs& args);
void MatMulCuda(CudaStream& stream, const MatMulArgs& args);
void EmbedRowsCuda(CudaStream& stream, const EmbedRowsArgs& args);
void RmsNormCuda(CudaStream& stream, const RmsNormArgs& args);
void RopeCuda(CudaStream& stream, const RopeArgs& args);
void StoreKvCuda(CudaStream& stream, const StoreKvArgs& args);
void PrepareAttentionCuda(CudaStream& stream, const PrepareAttentionArgs& args);
void AttentionCuda(CudaStream& stream, const AttentionArgs& args);
void GatedActivationCuda(CudaStream& stream, const GatedActivationArgs& args);
void AddCuda(CudaStream& stream, const AddArgs& args);
void SoftCapCuda(CudaStream& stream, const SoftCapArgs& args);
void TopLogitsCuda(CudaStream& stream, const TopLogitsArgs& args);
void ReadBytesCuda(CudaStream& stream, const ReadBytesArgs& args);

// All of the above, for CudaStream::ops.
const CudaOps& Ops();

}  // namespace weir::WEIR_CUDA_NAMESPACE

#endif  // WEIR_KERNELS_OPS_CUDA_H_
