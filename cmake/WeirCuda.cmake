# Looks for the CUDA toolkit and says what it found. weir has no CUDA sources yet, so nothing is
# compiled with it and no target changes: the CPU is the compute device either way.
#   WEIR_CUDA=auto  look, and go on without
#   WEIR_CUDA=on    look, and stop when there is none
#   WEIR_CUDA=off   do not look
set(WEIR_CUDA "auto" CACHE STRING "CUDA toolkit: auto, on (must be there) or off")
set_property(CACHE WEIR_CUDA PROPERTY STRINGS auto on off)
string(TOLOWER "${WEIR_CUDA}" weir_cuda)

if(weir_cuda STREQUAL "off")
  message(STATUS "CUDA: not looked for (WEIR_CUDA=off); the CPU is the compute device")
elseif(weir_cuda STREQUAL "auto" OR weir_cuda STREQUAL "on")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version
                    OUTPUT_VARIABLE nvcc_output ERROR_QUIET)
    string(REGEX MATCH "release ([0-9.]+)" nvcc_release "${nvcc_output}")
    message(STATUS "CUDA: toolkit ${CMAKE_MATCH_1} found (${CMAKE_CUDA_COMPILER}); this version "
                   "of weir has no CUDA sources, so nothing is compiled with it: the CPU is the "
                   "compute device")
  elseif(weir_cuda STREQUAL "on")
    message(FATAL_ERROR "WEIR_CUDA=on, but no CUDA compiler works here. Put nvcc on PATH or set "
                        "CUDACXX, or use WEIR_CUDA=auto: this version of weir has no CUDA sources.")
  else()
    message(STATUS "CUDA: no toolkit found; the CPU is the compute device")
  endif()
else()
  message(FATAL_ERROR "WEIR_CUDA is '${WEIR_CUDA}'; known are auto, on and off.")
endif()
