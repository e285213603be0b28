# How this project's targets are made: warnings as errors, sanitizers, headers that compile alone. No product knowledge.
add_library(mmc_warnings INTERFACE)
target_compile_options(mmc_warnings INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Wnull-dereference -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(mmc_warnings INTERFACE -Wthread-safety -Wno-null-dereference)
else()
  # g++ 12 reports false positives of these in coroutines and inlined std::string code (GCC bugs 104336, 105651).
  target_compile_options(mmc_warnings INTERFACE -Wno-null-dereference -Wno-restrict -Wno-maybe-uninitialized
    -Wno-stringop-overread -Wno-stringop-overflow -Wno-array-bounds)
endif()

if(MMC_SANITIZE)
  add_compile_options(-fsanitize=${MMC_SANITIZE} -fno-omit-frame-pointer -O1 -g1)
  add_link_options(-fsanitize=${MMC_SANITIZE})
  if(MMC_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
  if(MMC_SANITIZE MATCHES "thread")
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      add_compile_options(-Wno-tsan)
    endif()
    # The shadow of g++ 12 and clang 16 has no room for all addresses that a kernel with vm.mmap_rnd_bits above 28 takes
    # from: a program ends at its start now and then ("unexpected memory mapping"). Tests run at addresses that are not
    # random.
    execute_process(COMMAND setarch -R true RESULT_VARIABLE no_setarch OUTPUT_QUIET ERROR_QUIET)
    if(NOT no_setarch)
      set(CMAKE_CROSSCOMPILING_EMULATOR setarch -R)
    endif()
  endif()
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug" AND NOT MMC_SANITIZE)
  add_compile_options(-O1 -g1)
endif()
if(MMC_BUILD_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)  # the libraries report coverage to the fuzz targets
endif()

# What tests are made of runs once and briefly: the optimizer took most of the time of building them.
set(mmc_test_options)
if(MMC_SANITIZE)
  set(mmc_test_options -O0)
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  set(mmc_test_options -O1)
endif()

# Every program and library: addresses are random, what the loader has resolved cannot be written, no data runs. Release
# builds also check returns and the sizes of buffers. tests/unit/hardening_test.py looks at the result.
if(NOT MMC_SANITIZE)
  add_link_options(-Wl,-z,relro,-z,now -Wl,-z,noexecstack)
  add_link_options($<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:-pie>)
  if(CMAKE_BUILD_TYPE STREQUAL "Release" OR CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
    add_compile_options(-fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
  endif()
endif()

# What scripts/test builds per preset, so that no preset builds more than it runs.
set(MMC_FUZZ_TOTAL_SECONDS 600 CACHE STRING "How long all fuzz targets together run as tests, in seconds of one core")
foreach(group mmc_programs mmc_unit_tests mmc_contract_tests mmc_fuzz_targets)
  add_custom_target(${group})
endforeach()

# mmc_library(NAME HEADERS h... SOURCES cc... [DEPS targets...] [PRIVATE_DEPS targets...])
# A header with a source of its own compiles alone as that source does, which includes it first (scripts/tidy.py checks
# that): all_verify_interface_header_sets compiles the others.
function(mmc_library name)
  cmake_parse_arguments(A "" "" "HEADERS;SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  set(alone)
  set(with_source)
  foreach(header IN LISTS A_HEADERS)
    string(REGEX REPLACE "[.]h$" ".cc" source ${header})
    if(source IN_LIST A_SOURCES)
      list(APPEND with_source ${header})
    else()
      list(APPEND alone ${header})
    endif()
  endforeach()
  add_library(${name} STATIC)
  target_sources(${name}
    PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${alone}
    PUBLIC FILE_SET with_source TYPE HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${with_source}
    PRIVATE ${A_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${A_DEPS} PRIVATE mmc_warnings ${A_PRIVATE_DEPS})
  set_target_properties(${name} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON INTERFACE_HEADER_SETS_TO_VERIFY HEADERS)
endfunction()

# mmc_program(NAME SOURCES cc... DEPS targets...)
function(mmc_program name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE mmc_warnings ${A_DEPS})
  if(NOT CMAKE_CURRENT_SOURCE_DIR MATCHES "/(tests|perf)$")
    add_dependencies(mmc_programs ${name})
  endif()
endfunction()

# mmc_test(NAME SOURCES cc... DEPS targets... [LABELS l...] [TIMEOUT s])
function(mmc_test name)
  cmake_parse_arguments(A "" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT A_LABELS)
    set(A_LABELS unit)
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 120)
  endif()
  add_executable(${name} ${A_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  if(NOT "stress" IN_LIST A_LABELS)
    target_compile_options(${name} PRIVATE ${mmc_test_options})
  endif()
  target_link_libraries(${name} PRIVATE mmc_warnings ${A_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${A_LABELS}" TIMEOUT ${A_TIMEOUT})
  foreach(label IN LISTS A_LABELS)
    if(TARGET mmc_${label}_tests)
      add_dependencies(mmc_${label}_tests ${name})
    endif()
  endforeach()
endfunction()

# mmc_fuzz(NAME SOURCES cc... DEPS targets... SEEDS dir): a libFuzzer binary; mmc_fuzz_tests() makes a test of it.
function(mmc_fuzz name)
  cmake_parse_arguments(A "" "SEEDS" "SOURCES;DEPS" ${ARGN})
  if(NOT MMC_BUILD_FUZZ)
    return()
  endif()
  add_executable(${name} ${A_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(${name} PRIVATE mmc_warnings ${A_DEPS})
  set_target_properties(${name} PROPERTIES MMC_FUZZ_SEEDS ${A_SEEDS})
  set_property(GLOBAL APPEND PROPERTY MMC_FUZZ_TARGETS ${name})
  add_dependencies(mmc_fuzz_targets ${name})
endfunction()

# Once all targets are known: a bounded run of each as a test, MMC_FUZZ_TOTAL_SECONDS split over them. What it finds
# goes to the corpus in the build folder; an input that crashes is written beside it.
function(mmc_fuzz_tests)
  get_property(targets GLOBAL PROPERTY MMC_FUZZ_TARGETS)
  list(LENGTH targets count)
  if(count EQUAL 0)
    return()
  endif()
  math(EXPR seconds "(${MMC_FUZZ_TOTAL_SECONDS} + ${count} - 1) / ${count}")
  math(EXPR timeout "${seconds} + 120")
  foreach(name IN LISTS targets)
    get_target_property(seeds ${name} MMC_FUZZ_SEEDS)
    set(corpus ${CMAKE_BINARY_DIR}/corpus/${name})
    file(MAKE_DIRECTORY ${corpus})
    add_test(NAME ${name}
      COMMAND ${name} -max_total_time=${seconds} -rss_limit_mb=2048 -timeout=10 -print_final_stats=1
        -artifact_prefix=${CMAKE_BINARY_DIR}/corpus/${name}- ${corpus} ${seeds})
    set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT ${timeout})
  endforeach()
endfunction()
