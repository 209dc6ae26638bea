# cmake -DMUTANT=name -DROOT=repository -DHEADER=out.h -DSOURCE=out.cc -P mutate.cmake
#
# Copies tiering/scheduler.{h,cc} into namespace weir::name with the replacements of name.cmake, and
# without the scheduler's own checks: it is the machine's invariants that must see the harm.

function(replace_once text_variable from to)
  string(FIND "${${text_variable}}" "${from}" first)
  string(FIND "${${text_variable}}" "${from}" last REVERSE)
  if(first EQUAL -1 OR NOT first EQUAL last)
    message(FATAL_ERROR "mutant ${MUTANT}: this text must be in tiering/scheduler exactly once, "
                        "and is not. Bring tests/tiering/mutants/${MUTANT}.cmake up to date:\n"
                        "${from}")
  endif()
  string(REPLACE "${from}" "${to}" text "${${text_variable}}")
  set(${text_variable} "${text}" PARENT_SCOPE)
endfunction()

file(READ ${ROOT}/tiering/scheduler.h header)
file(READ ${ROOT}/tiering/scheduler.cc source)
include(${CMAKE_CURRENT_LIST_DIR}/${MUTANT}.cmake)

string(TOUPPER ${MUTANT} guard)
string(REPLACE "WEIR_TIERING_SCHEDULER_H_" "WEIR_MUTANT_${guard}_H_" header "${header}")
replace_once(header "\nnamespace weir {\n" "\nnamespace weir::${MUTANT} {\n")
replace_once(source "#include \"tiering/scheduler.h\""
             "#include \"tests/tiering/mutants/${MUTANT}.h\"")
replace_once(source "\nnamespace weir {\n" "
#undef WEIR_CHECK
#define WEIR_CHECK(condition) (static_cast<void>(condition))

namespace weir::${MUTANT} {
")
file(WRITE ${HEADER} "${header}")
file(WRITE ${SOURCE} "${source}")
