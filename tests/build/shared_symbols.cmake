# cmake -DNM=nm -DFIRST=a.o -DSECOND=b.o -P shared_symbols.cmake
# Two objects compiled for different instruction sets may share no function of graft: the linker keeps one of them, and a
# program built for any machine would run code of another. Special members of error types are the exception: they are
# types of their own right, thrown across such objects, and move nothing but a string.
cmake_policy(SET CMP0057 NEW)
foreach(object IN ITEMS FIRST SECOND)
  execute_process(COMMAND "${NM}" -C --defined-only "${${object}}" OUTPUT_VARIABLE text RESULT_VARIABLE status)
  if(NOT status EQUAL 0 OR NOT text MATCHES "graft::")
    message(FATAL_ERROR "no symbols of graft in ${${object}}")
  endif()
  string(REGEX REPLACE "[][;]" " " text "${text}")
  string(REGEX MATCHALL "[0-9a-f]+ W [^\n]*graft::[^\n]*" lines "${text}") # weak functions: the linker keeps one
  list(TRANSFORM lines REPLACE "^[0-9a-f]+ W " "")
  set(${object}_symbols "${lines}")
endforeach()
set(wrong 0)
list(REMOVE_DUPLICATES FIRST_symbols)
foreach(symbol IN LISTS FIRST_symbols)
  if(symbol IN_LIST SECOND_symbols AND NOT symbol MATCHES "error::~?[a-z_]*error\\(|::~[a-z_]*\\(")
    message("shared: ${symbol}")
    math(EXPR wrong "${wrong} + 1")
  endif()
endforeach()
if(wrong)
  message(FATAL_ERROR "${wrong} functions are shared; put them into the inline namespace GRAFT_TARGET or mark them GRAFT_FN")
endif()
