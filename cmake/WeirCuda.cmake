# Finds the CUDA toolkit, says what it found, and compiles kernels/*.cu with it. The program runs
# without a GPU all the same: the runtime is linked in, the driver is looked for when it starts.
#   WEIR_CUDA=auto  look, and go on without: the CPU is then the only compute device
#   WEIR_CUDA=on    look, and stop when there is none
#   WEIR_CUDA=off   do not look
# WEIR_CUDA_ARCHITECTURES is a list as CMAKE_CUDA_ARCHITECTURES takes it, or "all": what weir is
# tested for (sm_80, 86, 89, 90) and the newest PTX that this toolkit has, for later GPUs.
set(WEIR_CUDA "auto" CACHE STRING "CUDA toolkit: auto, on (must be there) or off")
set_property(CACHE WEIR_CUDA PROPERTY STRINGS auto on off)
set(WEIR_CUDA_ARCHITECTURES "90" CACHE STRING "GPU architectures: a list, or all")
string(TOLOWER "${WEIR_CUDA}" weir_cuda)
set(WEIR_HAVE_CUDA OFF)

if(weir_cuda STREQUAL "off")
  message(STATUS "CUDA: not looked for (WEIR_CUDA=off); the CPU is the compute device")
elseif(weir_cuda STREQUAL "auto" OR weir_cuda STREQUAL "on")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(WEIR_HAVE_CUDA ON)
  elseif(weir_cuda STREQUAL "on")
    message(FATAL_ERROR "WEIR_CUDA=on, but no CUDA compiler works here. Put nvcc on PATH or set "
                        "CUDACXX, or use WEIR_CUDA=auto to build for the CPU alone.")
  else()
    message(STATUS "CUDA: no toolkit found; the CPU is the compute device")
  endif()
else()
  message(FATAL_ERROR "WEIR_CUDA is '${WEIR_CUDA}'; known are auto, on and off.")
endif()

if(WEIR_HAVE_CUDA)
  if(CCACHE_PROGRAM AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  endif()
  if(WEIR_CUDA_ARCHITECTURES STREQUAL "all")
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE weir_archs)
    string(REGEX MATCHALL "[0-9]+" weir_archs "${weir_archs}")
    list(SORT weir_archs COMPARE NATURAL ORDER DESCENDING)
    list(GET weir_archs 0 weir_newest)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real ${weir_newest}-virtual)
  else()
    set(CMAKE_CUDA_ARCHITECTURES ${WEIR_CUDA_ARCHITECTURES})
  endif()
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  # CMake 3.25 does not know that this nvcc has C++20.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  find_package(CUDAToolkit REQUIRED)
  message(STATUS "CUDA: toolkit ${CUDAToolkit_VERSION} (${CMAKE_CUDA_COMPILER}); kernels for "
                 "${CMAKE_CUDA_ARCHITECTURES}")
endif()

# weir_cuda_kernels(TARGET [FOLDER]): the folder's *.cu, compiled by nvcc and made part of it. They
# are a target of their own because tools that read compile_commands.json do not know nvcc's
# options.
function(weir_cuda_kernels target)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${ARGV1}/*.cu)
  if(NOT WEIR_HAVE_CUDA OR NOT sources)
    return()
  endif()
  add_library(${target}_cuda OBJECT ${sources})
  set_target_properties(${target}_cuda PROPERTIES EXPORT_COMPILE_COMMANDS OFF)
  target_include_directories(${target}_cuda PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(${target}_cuda PRIVATE
    # Sums round as they are written, as on the host; Fma says where they do not.
    -fmad=false
    # constexpr functions are for both sides.
    --expt-relaxed-constexpr -Werror=all-warnings
    -Xcompiler=-Wall,-Wextra,-Werror,-Wshadow,-Wnon-virtual-dtor,-fno-exceptions,-fno-rtti
    -Xcompiler=-fno-math-errno,-ffp-contract=off)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_cuda>)
  target_link_libraries(${target} PUBLIC CUDA::cudart_static)
  target_compile_definitions(${target} PUBLIC WEIR_HAVE_CUDA=1)
endfunction()
