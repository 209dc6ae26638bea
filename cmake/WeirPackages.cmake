# Everything here is a package of the distribution (tools/setup installs them).

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(URING REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
if(WEIR_BUILD_TESTS)
  find_package(GTest REQUIRED)
  find_package(Boost REQUIRED COMPONENTS context)  # fibers that run CUDA kernels without a GPU
endif()
if(WEIR_BUNDLE)
  weir_link_abseil_archives()
endif()
