# Tests of cli.
set(unit ${CMAKE_CURRENT_SOURCE_DIR}/unit)
mmc_test(cli_test
  SOURCES ${unit}/cli_args_test.cc ${unit}/cli_commands_test.cc ${unit}/cli_doctor_test.cc ${unit}/cli_histogram_test.cc
    ${unit}/cli_load_test.cc ${unit}/cli_render_test.cc ${unit}/cli_trace_test.cc ${unit}/cli_value_test.cc
  DEPS mmc_cli_lib mmc_config)

find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME cli_make_trace_test
  COMMAND Python3::Interpreter ${unit}/cli_make_trace_test.py ${PROJECT_SOURCE_DIR}/scripts/make_trace)
add_test(NAME cli_program_test
  COMMAND Python3::Interpreter ${unit}/cli_program_test.py $<TARGET_FILE:mmc_cli>
    ${PROJECT_SOURCE_DIR}/scripts/make_trace)
set_tests_properties(cli_make_trace_test cli_program_test PROPERTIES LABELS unit TIMEOUT 120)
add_dependencies(mmc_unit_tests mmc_cli)

mmc_fuzz(trace_fuzz SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/trace_fuzz.cc
  DEPS mmc_cli_lib SEEDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/seeds/trace)
