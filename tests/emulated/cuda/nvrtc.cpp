// EMULATED libnvrtc: compiles CUDA C++ with the host's compiler. The "PTX" that it gives is the path of a shared object,
// which the emulated driver loads. Interface: https://docs.nvidia.com/cuda/nvrtc.

#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>

namespace {
struct Program {
    std::string source, output, log;
};

// The folder that this library was loaded from; the headers lie beside it.
std::string folder() {
    Dl_info info;
    dladdr(reinterpret_cast<void *>(&folder), &info);
    std::string path = info.dli_fname;
    return path.substr(0, path.find_last_of('/'));
}
}  // namespace

extern "C" {
int nvrtcCreateProgram(Program **program, const char *source, const char *, int, const char *const *, const char *const *) {
    *program = new Program{source, "", ""};
    return 0;
}
int nvrtcDestroyProgram(Program **program) {
    delete *program;
    *program = nullptr;
    return 0;
}

int nvrtcCompileProgram(Program *program, int, const char *const *) {
    std::string base = folder() + "/kernels-" + std::to_string(getpid()) + "-" +
                       std::to_string(reinterpret_cast<uintptr_t>(program));
    std::ofstream file(base + ".cpp");
    file << "#include \"kernel.h\"\n#line 1 \"kernels.cu\"\n" << program->source << "\n";
    // Each kernel gets an entry that unpacks its arguments. One that reaches a barrier, itself or through a function that
    // does, is run with fibers; the others, faster, in a loop.
    std::regex global("__global__ void (\\w+)\\(");
    auto &source = program->source;
    for (std::sregex_iterator it(source.begin(), source.end(), global), end; it != end; ++it) {
        size_t from = it->position(), to = source.find("\n}", from);
        std::string body = source.substr(from, to - from);
        bool barriers = body.find("__syncthreads") != std::string::npos || body.find("block_sum") != std::string::npos ||
                        body.find("join_lanes") != std::string::npos;
        file << "extern \"C\" void emulated_" << (*it)[1]
             << "(emulated::Size grid, emulated::Size block, void **arguments) { emulated::launch(" << (*it)[1] << ", "
             << (barriers ? "true" : "false") << ", grid, block, arguments); }\n";
    }
    file.close();
    std::string command = "c++ -std=c++17 -O2 -march=native -ffp-contract=off -w -U_FORTIFY_SOURCE -shared -fPIC -I'" + folder() +
                          "' -o '" + base + ".so' '" + base + ".cpp' 2>'" + base + ".log'";
    int status = std::system(command.c_str());
    std::stringstream log;
    log << std::ifstream(base + ".log").rdbuf();
    program->log = log.str();
    program->output = base + ".so";
    return status == 0 ? 0 : 6;
}

int nvrtcGetProgramLogSize(Program *program, size_t *size) { *size = program->log.size() + 1; return 0; }
int nvrtcGetProgramLog(Program *program, char *log) { std::strcpy(log, program->log.c_str()); return 0; }
int nvrtcGetPTXSize(Program *program, size_t *size) { *size = program->output.size() + 1; return 0; }
int nvrtcGetPTX(Program *program, char *ptx) { std::strcpy(ptx, program->output.c_str()); return 0; }
const char *nvrtcGetErrorString(int) { return "compilation failed"; }
}
