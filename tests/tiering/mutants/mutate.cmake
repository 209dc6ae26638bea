# cmake -DMUTANT=name -DROOT=repository -DOUT=folder -DSTEMS=a.h,a.cc -P mutate.cmake
#
# Copies those files of tiering/ into namespace weir::name, with the replacements of name.cmake and
# without the scheduler's own checks: it is the machine's invariants that must see the harm. In
# name.cmake the text of scheduler.cc is the variable scheduler_cc, and so on.

function(replace_once text_variable from to)
  string(FIND "${${text_variable}}" "${from}" first)
  string(FIND "${${text_variable}}" "${from}" last REVERSE)
  if(first EQUAL -1 OR NOT first EQUAL last)
    message(FATAL_ERROR "mutant ${MUTANT}: this text must be in tiering (${text_variable}) exactly "
                        "once, and is not. Bring tests/tiering/mutants/${MUTANT}.cmake up to "
                        "date:\n${from}")
  endif()
  string(REPLACE "${from}" "${to}" text "${${text_variable}}")
  set(${text_variable} "${text}" PARENT_SCOPE)
endfunction()

string(REPLACE "," ";" STEMS "${STEMS}")
foreach(stem IN LISTS STEMS)
  string(REPLACE "." "_" text ${stem})
  file(READ ${ROOT}/tiering/${stem} ${text})
endforeach()
include(${CMAKE_CURRENT_LIST_DIR}/${MUTANT}.cmake)

string(TOUPPER ${MUTANT} guard)
foreach(stem IN LISTS STEMS)
  string(REPLACE "." "_" text ${stem})
  string(REPLACE "_H_" "_H_MUTANT_${guard}_" ${text} "${${text}}")
  string(REPLACE "#include \"tiering/scheduler.h\""
         "#include \"tests/tiering/mutants/${MUTANT}/scheduler.h\"" ${text} "${${text}}")
  string(REPLACE "#include \"tiering/residency.h\""
         "#include \"tests/tiering/mutants/${MUTANT}/residency.h\"" ${text} "${${text}}")
  set(opening "\nnamespace weir::${MUTANT} {\n")
  if(stem MATCHES "\\.cc$")
    set(opening "
#undef WEIR_CHECK
#define WEIR_CHECK(condition) (static_cast<void>(condition))
${opening}")
  endif()
  replace_once(${text} "\nnamespace weir {\n" "${opening}")
  file(WRITE ${OUT}/${stem} "${${text}}")
endforeach()
