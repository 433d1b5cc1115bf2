#include <algorithm>
#include <cstdio>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "internal.h"

namespace zs {

static thread_local char last_error[256] = "";

void set_last_error(const char* message) { std::snprintf(last_error, sizeof last_error, "%s", message); }

void over_rows(int64_t rows, int64_t min_rows, int32_t threads, const std::function<void(int64_t, int64_t)>& work) {
  const int64_t pieces = std::clamp<int64_t>(rows / std::max<int64_t>(min_rows, 1), 1, std::max(threads, 1));
  std::exception_ptr failure;
  std::mutex failure_lock;
  auto piece = [&](int64_t i) {
    try {
      work(rows * i / pieces, rows * (i + 1) / pieces);
    } catch (...) {
      std::lock_guard<std::mutex> hold(failure_lock);
      failure = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  others.reserve(pieces - 1);
  int64_t next = 1;
  try {
    for (; next < pieces; ++next) others.emplace_back(piece, next);
  } catch (const std::system_error&) {
    // no more threads to be had: the caller does the rest
  }
  piece(0);
  for (; next < pieces; ++next) piece(next);
  for (auto& thread : others) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace zs

int32_t zs_abi_version() { return 5; }

const char* zs_last_error() { return zs::last_error; }
