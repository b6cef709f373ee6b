/* Part of the engine `fault`: what only C++ can do wrong. The names in a namespace are there to be demangled.
 */
#include "fault.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

namespace fault
{

class Thrower
{
  public:
    [[gnu::noinline]] int throw_it(const std::string &what) const
    {
        if (depth > 0)
            throw std::runtime_error(what);
        return depth;
    }

    [[gnu::noinline]] int allocate_too_much() const
    {
        volatile std::size_t size = SIZE_MAX / 4;
        void *volatile memory = ::operator new(size);
        return memory != nullptr;
    }

  private:
    int depth = 1;
};

/* Allocates blocks of 16 MiB until operator new throws; no destructor: nobody gets that far. */
class Hoarder
{
  public:
    [[gnu::noinline]] int64_t hoard()
    {
        constexpr std::size_t step = 16u << 20;
        while (held < FAULT_ALLOCATION_MAX) {
            auto *block = static_cast<char *>(::operator new(step));
            std::memset(block, 0x5a, step);
            std::memcpy(block, &newest, sizeof(newest));
            newest = block;
            held += static_cast<int64_t>(step);
        }
        return held;
    }

    void release()
    {
        while (newest != nullptr) {
            char *next;
            std::memcpy(&next, newest, sizeof(next));
            ::operator delete(newest);
            newest = next;
        }
    }

  private:
    char *newest = nullptr;
    int64_t held = 0;
};

struct Destroyed {
    [[gnu::noinline]] ~Destroyed()
    {
        volatile int *volatile pointer = nullptr;
        *pointer = 1;
    }
};

} // namespace fault

int fault_throw_uncaught(struct cohab_call *call)
{
    const char *what;
    if (cohab_parse(call, "s", &what) != 0)
        return -1;
    return fault::Thrower().throw_it(what) & 0;
}

int fault_throw_bad_alloc(struct cohab_call *)
{
    return fault::Thrower().allocate_too_much() & 0;
}

int fault_allocation_throw(struct cohab_call *call)
{
    fault::Hoarder hoarder;
    int64_t held = hoarder.hoard();
    hoarder.release();
    return cohab_fail(call, COHAB_RESOURCE_EXHAUSTED, "no limit within %lld bytes",
                      static_cast<long long>(held));
}

int fault_exit_with_destructor_crash(struct cohab_call *)
{
    static fault::Destroyed destroyed; /* its destructor is registered here, as by atexit() */
    std::exit(0);
}
