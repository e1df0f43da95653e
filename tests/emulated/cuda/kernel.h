// Put before the source of the kernels: CUDA's words in plain C++, and a grid run one block after the other.
//
// A block's threads are fibers: each runs until it waits at __syncthreads or ends, then the next one does. So a barrier
// means what it means on a GPU, and a missing one shows: even blocks are run from the first thread, odd ones from the last.
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <csetjmp>
#include <ucontext.h>
#include <utility>
#include <vector>

#include "emulation.h"

using std::exp; using std::log; using std::sqrt;

#define __global__
#define __device__
#define __forceinline__ inline
// One block at a time on a thread of the host: its shared memory is that thread's.
#define __shared__ static thread_local

namespace emulated {
struct Fiber {
    ucontext_t start;
    jmp_buf resume;
    bool begun, waits, ended;
    std::vector<char> stack;
};

struct Block {
    std::vector<Fiber> fibers;
    jmp_buf scheduler;
    void (*body)(void *);
    void *body_argument;
    size_t running;
};

inline thread_local Block *block_now = nullptr;
inline thread_local Size thread_index, block_index, block_size, grid_size;

inline void begin() {
    Block *block = block_now;
    block->body(block->body_argument);
    block->fibers[block->running].ended = true;
    _longjmp(block->scheduler, 1);
}

inline void barrier() {
    Block *block = block_now;
    Fiber &fiber = block->fibers[block->running];
    Size me = thread_index;
    fiber.waits = true;
    if (_setjmp(fiber.resume) == 0) _longjmp(block->scheduler, 1);
    thread_index = me;
}

// Runs all threads of a block to their end, barrier by barrier.
inline void run_block(Block *block, bool backwards) {
    size_t count = block->fibers.size();
    for (Fiber &fiber : block->fibers) fiber.begun = fiber.waits = fiber.ended = false;
    for (;;) {
        size_t ended = 0, waiting = 0;
        for (size_t turn = 0; turn < count; turn++) {
            size_t index = backwards ? count - 1 - turn : turn;
            Fiber &fiber = block->fibers[index];
            if (!fiber.ended) {
                fiber.waits = false;
                block->running = index;
                thread_index = {unsigned(index % block_size.x), unsigned(index / block_size.x % block_size.y),
                                unsigned(index / block_size.x / block_size.y)};
                if (_setjmp(block->scheduler) == 0) {
                    if (fiber.begun) _longjmp(fiber.resume, 1);
                    fiber.begun = true;
                    fiber.stack.resize(64 << 10);
                    getcontext(&fiber.start);
                    fiber.start.uc_stack = {fiber.stack.data(), 0, fiber.stack.size()};
                    fiber.start.uc_link = nullptr;
                    makecontext(&fiber.start, begin, 0);
                    setcontext(&fiber.start);
                }
            }
            ended += fiber.ended;
            waiting += fiber.waits;
        }
        if (ended == count) return;
        if (ended != 0) {
            std::fprintf(stderr, "emulated GPU: %zu of %zu threads wait at a barrier that the others never reach\n",
                         waiting, count);
            std::abort();
        }
    }
}

template <class... Arguments, size_t... I>
void call(void (*kernel)(Arguments...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<Arguments> *>(arguments[I])...);
}

template <class... Arguments>
struct Bound {
    void (*kernel)(Arguments...);
    void **arguments;
    static void run(void *self) {
        auto *bound = static_cast<Bound *>(self);
        call(bound->kernel, bound->arguments, std::index_sequence_for<Arguments...>());
    }
};

template <class... Arguments>
void launch(void (*kernel)(Arguments...), bool barriers, Size grid, Size size, void **arguments) {
    Bound<Arguments...> bound{kernel, arguments};
    static thread_local Block block;
    block_now = &block;
    block.body = Bound<Arguments...>::run;
    block.body_argument = &bound;
    grid_size = grid;
    block_size = size;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                block_index = {x, y, z};
                size_t threads = size_t(size.x) * size.y * size.z;
                if (barriers) {
                    if (block.fibers.size() != threads) block.fibers = std::vector<Fiber>(threads);
                    run_block(&block, (x + y + z) % 2);
                } else {
                    for (size_t index = 0; index < threads; index++) {
                        thread_index = {unsigned(index % size.x), unsigned(index / size.x % size.y),
                                        unsigned(index / size.x / size.y)};
                        bound.run(&bound);
                    }
                }
            }
}
}  // namespace emulated

#define threadIdx emulated::thread_index
#define blockIdx emulated::block_index
#define blockDim emulated::block_size
#define gridDim emulated::grid_size
#define __syncthreads emulated::barrier
