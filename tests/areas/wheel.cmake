# Both wheels, built and installed as a person does it.
find_program(MMC_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)

if(MMC_BUILD_PYTHON)
  add_test(NAME wheels
    COMMAND ${MMC_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/wheel/run.py ${PROJECT_SOURCE_DIR} ${CMAKE_BINARY_DIR}/wheels
      ${CMAKE_BUILD_TYPE})
  set_tests_properties(wheels PROPERTIES LABELS wheel TIMEOUT 1200 PROCESSORS 2 SKIP_RETURN_CODE 77)
endif()
