// EMULATED libcuda.so.1: the part of the CUDA driver's interface that n2n uses, on the CPU. Streams are immediate, memory is
// the host's, and a module is a shared object that the emulated NVRTC has compiled with the host's C++ compiler.
// Interface: CUDA driver API reference, https://docs.nvidia.com/cuda/cuda-driver-api.

#include <dlfcn.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "emulation.h"

namespace {
enum Result { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500 };

// Sizes of all allocations alive: a copy or a set that leaves one is an error, as a memory checker would say.
std::mutex guard;
std::map<uintptr_t, size_t> alive;

bool inside(uint64_t address, size_t bytes) {
    std::lock_guard<std::mutex> lock(guard);
    auto after = alive.upper_bound(address);
    if (after == alive.begin()) return false;
    auto found = std::prev(after);
    return address + bytes <= found->first + found->second;
}

// Large allocations alone share this memory, bytes: the test that fills it must not take it from those that run beside it.
constexpr size_t LARGE = size_t(64) << 20;
constexpr size_t MEMORY = size_t(512) << 20;
size_t held = 0;

// Bytes behind each allocation that nobody may change.
constexpr size_t FENCE = 64;
constexpr unsigned char MARK = 0xA5;

Result allocate(uint64_t *address, size_t bytes) {
    {
        std::lock_guard<std::mutex> lock(guard);
        if (bytes >= LARGE && held + bytes > MEMORY) return OUT_OF_MEMORY;
    }
    auto *memory = static_cast<unsigned char *>(std::aligned_alloc(256, (bytes + FENCE + 255) / 256 * 256));
    if (!memory) return OUT_OF_MEMORY;
    // Unwritten memory is not-a-number: a kernel that leaves a hole is found out.
    std::memset(memory, 0xFF, bytes);
    std::memset(memory + bytes, MARK, FENCE);
    *address = reinterpret_cast<uintptr_t>(memory);
    std::lock_guard<std::mutex> lock(guard);
    alive[*address] = bytes;
    if (bytes >= LARGE) held += bytes;
    return SUCCESS;
}

Result release(uint64_t address) {
    std::lock_guard<std::mutex> lock(guard);
    auto found = alive.find(address);
    if (found == alive.end()) return INVALID_VALUE;
    auto *memory = reinterpret_cast<unsigned char *>(address);
    for (size_t byte = 0; byte < FENCE; byte++) {
        if (memory[found->second + byte] != MARK) {
            std::fprintf(stderr, "emulated GPU: something wrote behind an array of %zu bytes\n", found->second);
            std::abort();
        }
    }
    if (found->second >= LARGE) held -= found->second;
    alive.erase(found);
    std::free(memory);
    return SUCCESS;
}

thread_local void *current = nullptr;
int context;
}  // namespace

extern "C" {
Result cuInit(unsigned) { return SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Result cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal == 0 ? SUCCESS : INVALID_DEVICE; }
Result cuDeviceGetName(char *name, int length, int) {
    std::snprintf(name, length, "EMULATED GPU");
    return SUCCESS;
}
Result cuDeviceGetAttribute(int *value, int attribute, int) {
    switch (attribute) {
        case 75: *value = 9; break;    // compute capability, major
        case 76: *value = 0; break;    // minor
        case 115: *value = 1; break;   // memory pools are supported
        default: return INVALID_VALUE;
    }
    return SUCCESS;
}
Result cuDevicePrimaryCtxRetain(void **out, int) { *out = &context; return SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
Result cuCtxGetCurrent(void **out) { *out = current; return SUCCESS; }
Result cuCtxSetCurrent(void *context) { current = context; return SUCCESS; }
Result cuCtxSynchronize() { return SUCCESS; }
Result cuDeviceGetDefaultMemPool(void **pool, int) { *pool = &context; return SUCCESS; }
Result cuMemPoolSetAttribute(void *, int, void *) { return SUCCESS; }

Result cuStreamCreate(void **stream, unsigned) { *stream = std::malloc(1); return SUCCESS; }
Result cuStreamDestroy_v2(void *stream) { std::free(stream); return SUCCESS; }
Result cuStreamSynchronize(void *) { return SUCCESS; }

Result cuMemAllocAsync(uint64_t *address, size_t bytes, void *) { return allocate(address, bytes); }
Result cuMemFreeAsync(uint64_t address, void *) { return release(address); }
Result cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *) {
    if (!inside(to, bytes)) return INVALID_VALUE;
    std::memcpy(reinterpret_cast<void *>(to), from, bytes);
    return SUCCESS;
}
Result cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *) {
    if (!inside(from, bytes)) return INVALID_VALUE;
    std::memcpy(to, reinterpret_cast<void *>(from), bytes);
    return SUCCESS;
}

Result cuModuleLoadData(void **module, const void *image) {
    *module = dlopen(static_cast<const char *>(image), RTLD_NOW | RTLD_LOCAL);
    if (!*module) std::fprintf(stderr, "emulated GPU: %s\n", dlerror());
    return *module ? SUCCESS : INVALID_VALUE;
}
Result cuModuleUnload(void *module) { dlclose(module); return SUCCESS; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = dlsym(module, (std::string("emulated_") + name).c_str());
    return *function ? SUCCESS : NOT_FOUND;
}
Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned, void *, void **arguments, void **) {
    // Limits of every GPU that CUDA 13 serves.
    if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || bx * by * bz == 0 || bx * by * bz > 1024) return INVALID_VALUE;
    reinterpret_cast<emulated::Launch>(function)({gx, gy, gz}, {bx, by, bz}, arguments);
    return SUCCESS;
}

Result cuGetErrorName(Result error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR";
    return SUCCESS;
}
Result cuGetErrorString(Result error, const char **text) {
    switch (error) {
        case OUT_OF_MEMORY: *text = "out of memory"; break;
        case INVALID_VALUE: *text = "invalid argument"; break;
        case INVALID_DEVICE: *text = "invalid device ordinal"; break;
        default: *text = "named symbol not found";
    }
    return SUCCESS;
}
}
