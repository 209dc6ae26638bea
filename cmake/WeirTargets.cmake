# One library per folder: its *.cc, found by name so that adding a file needs no edit here.
#   weir_library(io DEPS Threads::Threads)  ->  target weir_io
function(weir_library name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc
       ${CMAKE_CURRENT_SOURCE_DIR}/policies/*.cc)
  # What talks to CUDA is cuda_*.cc; no_cuda_*.cc says that there is none.
  if(WEIR_HAVE_CUDA)
    list(FILTER sources EXCLUDE REGEX "/no_cuda_[a-z_]*[.]cc$")
  else()
    list(FILTER sources EXCLUDE REGEX "/cuda_[a-z_]*[.]cc$")
  endif()
  if(NOT sources)
    return()
  endif()
  add_library(weir_${name} STATIC ${sources})
  target_include_directories(weir_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(weir_${name} PUBLIC ${ARG_DEPS})
endfunction()

# Registers every GoogleTest case of `target` with CTest, at test time (so that a sanitizer build
# does not run its binaries while it builds). A test suite whose name contains Slow or Gpu gets that
# label: `ctest -LE "slow|gpu"` leaves them out, tools/test does the same through --gtest_filter.
function(weir_discover target)
  set(common DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  gtest_discover_tests(${target} ${common} TEST_FILTER "-*Slow*:*Gpu*" PROPERTIES LABELS unit)
  gtest_discover_tests(${target} ${common} TEST_FILTER "*Slow*"
                       TEST_LIST ${target}_slow PROPERTIES LABELS slow)
  gtest_discover_tests(${target} ${common} TEST_FILTER "*Gpu*"
                       TEST_LIST ${target}_gpu PROPERTIES LABELS gpu)
endfunction()

# One test binary per folder of tests/: weir_test(io LIBS weir_io) -> io_test, known to CTest.
# HELPERS are those of other folders, as paths below tests/.
function(weir_test name)
  cmake_parse_arguments(ARG "" "" "LIBS;HELPERS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*_test.cc)
  file(GLOB helpers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*_helper.cc)
  if(NOT sources)
    return()
  endif()
  add_executable(${name}_test ${sources} ${helpers} ${ARG_HELPERS})
  target_link_libraries(${name}_test PRIVATE ${ARG_LIBS} GTest::gmock GTest::gtest_main)
  weir_discover(${name}_test)
endfunction()
