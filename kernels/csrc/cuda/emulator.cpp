#include "emulator.h"

#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define ZS_FIBERS_FOR_ASAN 1
#else
#define ZS_FIBERS_FOR_ASAN 0
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {
namespace {

constexpr size_t kStack = 128 << 10;

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, DONE };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  State state = DONE;
  uint32_t brought = 0;
  void* fake_stack = nullptr;
};

bool downwards = false;
std::vector<Fiber> fibers;
ucontext_t scheduler;
unsigned running;
const std::function<void()>* body;
float* shared = nullptr;
#if ZS_FIBERS_FOR_ASAN
const void* scheduler_stack;
size_t scheduler_size;
#endif

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "emulator: block %u: %s\n", blockIdx.x, what);
  std::abort();
}

void to_scheduler(State state) {
  Fiber& fiber = fibers[running];
  fiber.state = state;
#if ZS_FIBERS_FOR_ASAN
  __sanitizer_start_switch_fiber(state == DONE ? nullptr : &fiber.fake_stack, scheduler_stack, scheduler_size);
#endif
  swapcontext(&fiber.context, &scheduler);
#if ZS_FIBERS_FOR_ASAN
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &scheduler_stack, &scheduler_size);
#endif
}

void enter() {
#if ZS_FIBERS_FOR_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
  (*body)();
  to_scheduler(DONE);
}

void resume(unsigned index) {
  Fiber& fiber = fibers[index];
  running = index;
  threadIdx.x = index;
#if ZS_FIBERS_FOR_ASAN
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, fiber.stack.get(), kStack);
#endif
  swapcontext(&scheduler, &fiber.context);
#if ZS_FIBERS_FOR_ASAN
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

// Sends on whoever waits at a barrier that all have reached; false when all threads are done.
bool release(unsigned threads) {
  unsigned done = 0, at_block = 0;
  bool released = false;
  for (unsigned warp = 0; warp < threads; warp += 32) {
    unsigned at_warp = 0;
    for (unsigned i = warp; i < warp + 32; ++i) {
      done += fibers[i].state == DONE;
      at_block += fibers[i].state == AT_BLOCK_BARRIER;
      at_warp += fibers[i].state == AT_WARP_BARRIER;
    }
    if (at_warp != 0 && at_warp != 32) fail("a shuffle or ballot that not all lanes of a warp reach");
    for (unsigned i = warp; at_warp && i < warp + 32; ++i) fibers[i].state = READY;
    released |= at_warp != 0;
  }
  if (released) return true;
  if (done == threads) return false;
  if (at_block != threads) fail("a __syncthreads that not all threads of the block reach");
  for (unsigned i = 0; i < threads; ++i) fibers[i].state = READY;
  return true;
}

}  // namespace

float* shared_memory() { return shared; }

void block_barrier() { to_scheduler(AT_BLOCK_BARRIER); }

uint32_t exchange(uint32_t value, int lane) {
  const unsigned warp = running / 32 * 32;
  fibers[running].brought = value;
  to_scheduler(AT_WARP_BARRIER);
  const uint32_t found = fibers[warp + static_cast<unsigned>(lane)].brought;
  to_scheduler(AT_WARP_BARRIER);  // nobody brings the next value before all have read this one
  return found;
}

uint32_t ballot(bool bit) {
  const unsigned warp = running / 32 * 32;
  fibers[running].brought = bit;
  to_scheduler(AT_WARP_BARRIER);
  uint32_t bits = 0;
  for (unsigned i = 0; i < 32; ++i) bits |= fibers[warp + i].brought << i;
  to_scheduler(AT_WARP_BARRIER);
  return bits;
}

void launch(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& kernel) {
  if (blocks < 1 || blocks > INT32_MAX || threads < 32 || threads > 1024 || threads % 32) fail("a launch of a wrong size");
  if (shared_bytes > (48 << 10)) fail("more shared memory than every GPU gives without asking");
  const unsigned count = static_cast<unsigned>(threads);
  gridDim.x = static_cast<unsigned>(blocks);
  blockDim.x = count;
  if (fibers.size() < count) fibers.resize(count);
  for (unsigned i = 0; i < count; ++i)
    if (!fibers[i].stack) fibers[i].stack.reset(new char[kStack]);
  body = &kernel;
  for (unsigned block = 0; block < gridDim.x; ++block) {
    blockIdx.x = block;
    void* memory = nullptr;
    if (posix_memalign(&memory, 16, shared_bytes ? shared_bytes : 1)) fail("out of memory");
    std::memset(memory, 0xff, shared_bytes);
    shared = static_cast<float*>(memory);
    for (unsigned i = 0; i < count; ++i) {
      Fiber& fiber = fibers[i];
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStack;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, enter, 0);
      fiber.state = READY;
    }
    do {
      for (unsigned i = 0; i < count; ++i) {
        const unsigned index = downwards ? count - 1 - i : i;
        if (fibers[index].state == READY) resume(index);
      }
    } while (release(count));
    std::free(memory);
  }
}

float half_to_float(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  float value = exponent ? std::ldexp(1024.0f + static_cast<float>(mantissa), exponent - 25)
                         : std::ldexp(static_cast<float>(mantissa), -24);
  if (exponent == 31) value = mantissa ? NAN : INFINITY;
  return bits & 0x8000 ? -value : value;
}

uint16_t float_to_half(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const float size = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7e00;
  if (size >= 65520.0f) return sign | 0x7c00;
  if (size < std::ldexp(1.0f, -14))  // nearbyint rounds to nearest, ties to even
    return static_cast<uint16_t>(sign | static_cast<int>(std::nearbyint(std::ldexp(size, 24))));
  int exponent;
  const int mantissa = static_cast<int>(std::nearbyint(std::ldexp(std::frexp(size, &exponent), 11)));  // [1024, 2048]
  return static_cast<uint16_t>(sign | (((exponent + 14) << 10) + (mantissa - 1024)));
}

}  // namespace emulator

void zs_emulator_set_order(int wanted) { emulator::downwards = wanted != 0; }
