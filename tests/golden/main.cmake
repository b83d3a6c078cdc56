# cmake -DCHECKER=graft_golden -DCASE=CASE.safetensors -DWORK=DIR -P main.cmake
# What graft_golden does with folders that are missing, empty, broken or strange. CASE is a sound case of the method lora;
# broken ones are made of it by changes that keep every length.
cmake_policy(VERSION 3.23)
find_program(SED sed)
if(NOT SED)
  message("no sed here: skipped")
  return()
endif()
file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")

# changed(<file below WORK> <sed expression>...): CASE, altered
function(changed file)
  set(command env LC_ALL=C "${SED}")
  foreach(expression IN LISTS ARGN)
    list(APPEND command -e "${expression}")
  endforeach()
  cmake_path(GET file PARENT_PATH folder)
  file(MAKE_DIRECTORY "${WORK}/${folder}")
  execute_process(COMMAND ${command} "${CASE}" OUTPUT_FILE "${WORK}/${file}" COMMAND_ERROR_IS_FATAL ANY)
  file(SHA256 "${WORK}/${file}" now)
  file(SHA256 "${CASE}" before)
  if(now STREQUAL before AND ARGN)
    message(SEND_ERROR "${file}: nothing was changed")
  endif()
endfunction()
function(sound file)
  cmake_path(GET file PARENT_PATH folder)
  file(COPY_FILE "${CASE}" "${WORK}/${file}")
endfunction()

# expect(<what> <exit status> <regex for all of the output> <argument>...): the last line must end the regex
function(expect what wanted regex)
  execute_process(COMMAND "${CHECKER}" ${ARGN} WORKING_DIRECTORY "${WORK}"
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REPLACE "[" "(" text "${output}")
  string(REPLACE "]" ")" text "${text}")
  if(NOT status EQUAL wanted OR NOT text MATCHES "^${regex}$")
    message(SEND_ERROR "${what}: wanted ${wanted} and\n${regex}\ngot ${status} and\n${output}")
  endif()
endfunction()

set(pass "PASS lora/plain compared 6 of 6, max error/bound 0\\.[0-9]+\n")

# Sound: one line a case, totals last.
file(MAKE_DIRECTORY "${WORK}/sound")
sound(sound/plain.safetensors)
expect("a sound case" 0 "${pass}1 passed, 0 failed, 0 skipped\n" sound)
expect("a file" 0 "${pass}1 passed, 0 failed, 0 skipped\n" sound/plain.safetensors)
expect("the self-test" 0 "PASS lora/plain [0-9]+ spoilt copies of 6 tensors, all refused\n1 passed, 0 failed, 0 skipped\n"
  --self-test sound)

# Nothing to compare is a failure, whatever else passes.
expect("a missing folder" 1 "FAIL nowhere there is no such folder\n0 passed, 1 failed, 0 skipped\n" nowhere)
file(MAKE_DIRECTORY "${WORK}/empty/deeper")
expect("an empty folder" 1 "FAIL empty holds no case\n0 passed, 1 failed, 0 skipped\n" empty)
changed(no_case/other.safetensors "s/\"method\":\"lora\"/\"nethod\":\"lora\"/")
file(WRITE "${WORK}/no_case/README.md" "no case\n")
expect("files that are no case" 1 "FAIL no_case holds no case\n0 passed, 1 failed, 0 skipped\n" no_case)
expect("a sound and a missing folder" 1 "${pass}FAIL nowhere .*\n1 passed, 1 failed, 0 skipped\n" sound nowhere)

# A method that is not known is skipped, and skipped is not passed.
changed(unknown/plain.safetensors "s/\"method\":\"lora\"/\"method\":\"nope\"/")
set(skip "SKIP nope/plain graft has no method nope\n")
expect("an unknown method" 1 "${skip}0 passed, 0 failed, 1 skipped\n" unknown)
expect("an unknown method and a sound case" 0 "${pass}${skip}1 passed, 0 failed, 1 skipped\n" sound unknown)

# Broken files.
file(WRITE "${WORK}/garbage/plain.safetensors" "this is no safetensors file, whatever its name says")
expect("garbage" 1 "FAIL garbage/plain .*\n0 passed, 1 failed, 0 skipped\n" garbage)
file(WRITE "${WORK}/nothing/plain.safetensors" "")
expect("a file without bytes" 1 "FAIL nothing/plain .*\n0 passed, 1 failed, 0 skipped\n" nothing)
changed(length/plain.safetensors "\$a more bytes than the header says")
expect("trailing bytes" 1 "FAIL length/plain .*\n0 passed, 1 failed, 0 skipped\n" length)
file(MAKE_DIRECTORY "${WORK}/dangling")
file(CREATE_LINK "${WORK}/nowhere" "${WORK}/dangling/plain.safetensors" SYMBOLIC)
expect("a link to nothing" 1 "FAIL dangling/plain .*\n0 passed, 1 failed, 0 skipped\n" dangling)

# Lists that do not describe the file, settings that cannot be.
function(refused what sentence)
  changed(refused/plain.safetensors ${ARGN})
  expect("${what}" 1 "FAIL [a-z]+/plain ${sentence}[^\n]*\n0 passed, 1 failed, 0 skipped\n" refused)
endfunction()
refused("an expected tensor that is not there" "expected tensor delta.V is not in the file"
  [[s/"expected":"\[\\"delta.W/"expected":"[\\"delta.V/]])
refused("an input that is not there" "input V is not in the file" [[s/"inputs":"\[\\"W/"inputs":"[\\"V/]])
refused("a tolerance without its tensor" "float64 twin delta.V64 is not in the file" [[s/"tol":"{\\"delta.W/"tol":"{\\"delta.V/]])
refused("a list that is no JSON" "[^\n]*\\(expected\\)" [[s/"expected":"\[/"expected":"{/]])
refused("an unknown kind of expectation" "metadata expect is OK" [[s/"expect":"ok"/"expect":"OK"/]])
refused("no list of inputs" "the metadata has no inputs" [[s/"inputs":/"imputs":/]])
refused("a scaling that alpha and r do not give" "scaling [0-9.]+ is not what" [[s/\\"lora_alpha\\": 8/\\"lora_alpha\\": 4/]])

# Other numbers: how many were compared, and where the worst is.
changed(wrong/plain.safetensors [[s/\\"lora_alpha\\": 8/\\"lora_alpha\\": 4/]] [[s/\\"scaling\\": 2/\\"scaling\\": 1/]])
expect("another scale" 1
  "FAIL lora/plain compared 6 of 6, 6 wrong, worst [a-zA-Z._]+: \\([0-9]+, [0-9]+\\) got [^ ]+, want [^ ]+, .error. [^ ]+, bound [^ ]+\n0 passed, 1 failed, 0 skipped\n"
  wrong)
changed(error/plain.safetensors [[s/"expect":"ok"/"expect":"error"/]] [[s/"set":"public"/"set":"pub"/]])
expect("an error that is expected beside tensors" 1 "FAIL [a-z]+/plain tensors are expected beside an expected error\n.*" error)

# Folders: walked in order, each once; one that holds adapter_config.json is one case, and nothing below it is walked.
file(MAKE_DIRECTORY "${WORK}/tree/a/b" "${WORK}/tree/checkpoint/below")
sound(tree/a/b/plain.safetensors)
sound(tree/checkpoint/below/plain.safetensors)
file(CREATE_LINK "${WORK}/tree" "${WORK}/tree/a/loop" SYMBOLIC)
expect("a tree with a loop" 0 "${pass}${pass}2 passed, 0 failed, 0 skipped\n" tree)
file(WRITE "${WORK}/tree/checkpoint/adapter_config.json" "{}")
expect("a checkpoint without its reference" 1
  "${pass}FAIL tree/checkpoint [^\n]*reference.safetensors[^\n]*\n1 passed, 1 failed, 0 skipped\n" tree)
sound(tree/checkpoint/reference.safetensors)
expect("a checkpoint with somebody's reference" 1
  "${pass}FAIL [^\n]*the method of a checkpoint's reference is lora\n1 passed, 1 failed, 0 skipped\n" tree)

# Calls that make no sense.
expect("no folder" 2 "usage: graft_golden .*")
expect("an unknown option" 2 "usage: graft_golden .*" --selftest sound)
file(REMOVE_RECURSE "${WORK}")
