// What the emulated libraries and the kernels compiled for them agree on.
#pragma once

namespace emulated {
struct Size {
    unsigned x, y, z;
};
// Runs a whole grid; arguments as cuLaunchKernel takes them.
using Launch = void (*)(Size grid, Size block, void **arguments);
}  // namespace emulated
