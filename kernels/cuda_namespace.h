// The kernels are compiled twice: by nvcc for the device, in namespace weir::cuda, and as plain C++
// for the host grid (tests/kernels/host_grid/), with WEIR_HOST_GRID defined, in weir::host_grid. So
// one program can hold both.
#ifndef WEIR_KERNELS_CUDA_NAMESPACE_H_
#define WEIR_KERNELS_CUDA_NAMESPACE_H_

#ifdef WEIR_HOST_GRID
#define WEIR_CUDA_NAMESPACE host_grid
#else
#define WEIR_CUDA_NAMESPACE cuda
#endif

#endif  // WEIR_KERNELS_CUDA_NAMESPACE_H_
