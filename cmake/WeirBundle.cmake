# WEIR_BUNDLE=ON links what a bundle (tools/bundle) takes along: every library as an archive where
# the distribution has one, so that the binaries need only the C library of the machine they run on.
# What exists as a shared library alone, and the C++ runtime that it needs, is looked for in lib/
# beside the folder of the binaries; tools/bundle puts it there.

option(WEIR_BUNDLE "Link archives instead of shared libraries, for tools/bundle" OFF)
if(WEIR_BUNDLE)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a .so)
  set(Boost_USE_STATIC_LIBS ON)
  set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
  set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib")
endif()

# Abseil's package names its shared libraries; the archives lie beside them.
function(weir_link_abseil_archives)
  get_property(targets DIRECTORY ${PROJECT_SOURCE_DIR} PROPERTY IMPORTED_TARGETS)
  list(FILTER targets INCLUDE REGEX "^absl::")
  foreach(target IN LISTS targets)
    get_target_property(type ${target} TYPE)
    if(NOT type STREQUAL "SHARED_LIBRARY")
      continue()
    endif()
    get_target_property(configurations ${target} IMPORTED_CONFIGURATIONS)
    foreach(configuration IN LISTS configurations)
      get_target_property(shared ${target} IMPORTED_LOCATION_${configuration})
      string(REGEX REPLACE "\\.so(\\.[0-9]+)*$" ".a" archive "${shared}")
      if(EXISTS "${archive}")
        set_target_properties(${target} PROPERTIES IMPORTED_LOCATION_${configuration} "${archive}")
      endif()
    endforeach()
  endforeach()
endfunction()

# hwloc's archive needs a library that has none; the binaries name it themselves, since lib/ is
# looked into for what they need and not for what their libraries do.
function(weir_link_hwloc_archive)
  find_library(WEIR_UDEV NAMES libudev.so.1 REQUIRED)
  target_link_libraries(PkgConfig::HWLOC INTERFACE ${WEIR_UDEV} m)
endfunction()
