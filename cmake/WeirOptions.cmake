# Build-wide settings: Release by default, warnings are errors, sanitizers by name.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

option(WEIR_BUILD_TESTS "Build the tests" ON)
option(WEIR_FUZZ "Build the libFuzzer targets beside the replay of their corpora (clang only)" OFF)
set(WEIR_SANITIZE "" CACHE STRING "Sanitizers: empty, 'address,undefined' or 'thread'")
set_property(CACHE WEIR_SANITIZE PROPERTY STRINGS "" "address,undefined" "thread")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# No -march here: one binary serves every x86-64 CPU. Code that needs AVX2 or more is compiled for
# several targets by Highway and chosen at run time; a CPU without AVX2 is told so by the program.
# Assertions of our own (WEIR_CHECK) are always on; the C library's assert is not used.
# nvcc has options of its own (WeirCuda).
set(weir_options -Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor
                 -fno-exceptions -fno-rtti -fno-math-errno -ffp-contract=off)
add_compile_options("$<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:${weir_options}>")

# GCC 12 reports overlapping copies inside std::string's own assignment and concatenation that
# cannot happen (GCC bug 105651, mended in 13); where it does so changes with inlining.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  add_compile_options($<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:-Wno-restrict>)
endif()

if(NOT WEIR_SANITIZE MATCHES "^(|address|undefined|address,undefined|thread)$")
  message(FATAL_ERROR "WEIR_SANITIZE is '${WEIR_SANITIZE}'; known are '', 'address', 'undefined', "
                      "'address,undefined' and 'thread'.")
endif()
if(WEIR_SANITIZE)
  # Every finding ends the program, so that a test cannot pass over one.
  add_compile_options(-fsanitize=${WEIR_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${WEIR_SANITIZE})
endif()

# What Highway leaves out of sanitizer builds, whose kernels compile slowly: the target AVX3,
# whose code AVX3_DL's is but for one instruction, and what this machine cannot run. The unit tests
# run all that it can.
if(WEIR_SANITIZE)
  file(STRINGS /proc/cpuinfo vnni REGEX "avx512_vnni" LIMIT_COUNT 1)
  set(left_out "HWY_AVX3")
  if(NOT vnni)
    string(APPEND left_out "|HWY_AVX3_DL")
  endif()
  add_compile_definitions("HWY_BROKEN_TARGETS=(${left_out})")
endif()

if(WEIR_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "WEIR_FUZZ needs clang (libFuzzer is part of it); the compiler is "
                        "${CMAKE_CXX_COMPILER_ID}. Use: cmake --preset fuzz")
  endif()
  # Coverage feedback from all of weir's code; the targets themselves link the fuzzer's main.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
