// What the kernels share: status and message, rows over threads, one function compiled for several processors.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <new>
#include <stdexcept>

#include "native.h"

// On x86-64 Linux the compiler makes a copy per instruction set and the loader picks one; elsewhere the portable
// copy is the only one (on 64-bit ARM it already uses NEON). Named by feature: "arch=..." also asks who made the
// processor, and leaves AMD's with the portable copy.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(ZEROSEG_NO_CLONES)
#define ZS_CLONES __attribute__((target_clones("default", "avx2")))
#else
#define ZS_CLONES
#endif
// Bodies that a cloned function shares must be compiled inside it, once per instruction set.
#define ZS_INLINE static inline __attribute__((always_inline))

namespace zs {

void set_last_error(const char* message);

// Throws std::invalid_argument with this text, which must be a literal.
inline void check(bool fine, const char* message) {
  if (!fine) throw std::invalid_argument(message);
}

// Calls work(begin, end) on pieces of [0, rows), on at most `threads` threads, the caller's among them. A piece is
// given a thread of its own only if it holds min_rows rows: starting one costs tens of microseconds.
void over_rows(int64_t rows, int64_t min_rows, int32_t threads, const std::function<void(int64_t, int64_t)>& work);

// Runs a kernel's body and turns exceptions into a status, since none may cross the C interface.
template <typename Body>
int32_t guarded(Body body) {
  try {
    body();
    return ZS_OK;
  } catch (const std::invalid_argument& error) {
    set_last_error(error.what());
    return ZS_BAD_ARGUMENT;
  } catch (const std::bad_alloc&) {
    set_last_error("out of memory");
    return ZS_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    set_last_error(error.what());
    return ZS_INTERNAL;
  }
}

}  // namespace zs
