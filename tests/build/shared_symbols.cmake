# cmake -DNM=nm -DOBJECT=a.o -P shared_symbols.cmake
# Two objects compiled for different instruction sets may share no function of graft: the linker keeps one of them, and a
# program built for any machine would run code of another. So every function that a linker may merge is part of the namespace of
# its object's target. Special members of error types are the exception: they are types of their own right, thrown across such
# objects, and move nothing but a string.
execute_process(COMMAND "${NM}" -C --defined-only "${OBJECT}" OUTPUT_VARIABLE text RESULT_VARIABLE status)
if(NOT status EQUAL 0 OR NOT text MATCHES "graft::[^\n]*::target_")
  message(FATAL_ERROR "no symbols of graft in ${OBJECT}")
endif()
string(REGEX REPLACE "[][;]" " " text "${text}")
string(REGEX MATCHALL "[0-9a-f]+ W [^\n]*graft::[^\n]*" lines "${text}") # weak functions: the linker keeps one
list(TRANSFORM lines REPLACE "^[0-9a-f]+ W " "")
list(FILTER lines EXCLUDE REGEX "::target_|error::~?[a-z_]*error\\(|::~[a-z_]*\\(")
list(REMOVE_DUPLICATES lines)
if(lines)
  list(LENGTH lines wrong)
  list(JOIN lines "\n  " lines)
  message(FATAL_ERROR "${wrong} functions are shared; put them into the inline namespace GRAFT_TARGET or mark them GRAFT_FN:\n  ${lines}")
endif()
