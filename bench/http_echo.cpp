// What most people put around a native engine today: an HTTP server, here cpp-httplib on the loopback
// interface.
//
//     http_echo WORKERS        prints the port that it listens on; ends when it is killed
//
// POST /echo gives back its body; POST /sleep and /spin take seconds as their body. A keep-alive connection
// has a thread to itself, as cpp-httplib has it; at most WORKERS threads run the "engine" at a time, as a
// pool of engines would.
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <semaphore>
#include <string>

#include <httplib.h>

#include "work.h"

namespace
{
constexpr std::ptrdiff_t workers_max = 1000;
constexpr std::size_t threads = 128;
constexpr std::time_t keep_alive_s = 3600;

using Work = void (*)(double);

void run(std::counting_semaphore<workers_max> &engines, Work work, const httplib::Request &request)
{
    engines.acquire();
    work(std::strtod(request.body.c_str(), nullptr));
    engines.release();
}
} // namespace

int main(int argc, char **argv)
{
    const long workers = argc == 2 ? std::strtol(argv[1], nullptr, 10) : 0;
    if (workers < 1 || workers > workers_max) {
        std::fputs("usage: http_echo WORKERS\n", stderr);
        return 2;
    }
    std::counting_semaphore<workers_max> engines(workers);
    httplib::Server server;
    server.new_task_queue = [] { return new httplib::ThreadPool(threads); };
    server.set_tcp_nodelay(true);
    server.set_keep_alive_max_count(SIZE_MAX);
    server.set_keep_alive_timeout(keep_alive_s);
    server.Post("/echo", [](const httplib::Request &request, httplib::Response &response) {
        response.set_content(request.body, "application/octet-stream");
    });
    server.Post("/sleep", [&](const httplib::Request &request, httplib::Response &) {
        run(engines, work_sleep, request);
    });
    server.Post("/spin", [&](const httplib::Request &request, httplib::Response &) {
        run(engines, work_spin, request);
    });
    const int port = server.bind_to_any_port("127.0.0.1");
    if (port < 0) {
        std::perror("http_echo: bind");
        return EXIT_FAILURE;
    }
    std::printf("%d\n", port);
    std::fflush(stdout);
    return server.listen_after_bind() ? EXIT_SUCCESS : EXIT_FAILURE;
}
