// The sanitizer that this is compiled with, for g++ and clang alike.
#pragma once

#if defined(__has_feature)
#define TESTS_HAS_FEATURE(name) __has_feature(name)
#else
#define TESTS_HAS_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || TESTS_HAS_FEATURE(address_sanitizer)
#define TESTS_WITH_ASAN 1
#else
#define TESTS_WITH_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || TESTS_HAS_FEATURE(thread_sanitizer)
#define TESTS_WITH_TSAN 1
#else
#define TESTS_WITH_TSAN 0
#endif
