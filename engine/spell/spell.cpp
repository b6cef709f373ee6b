// spell: Hunspell behind cohab. The dictionary is loaded once, before the workers are forked, and shared by
// all of them.
//
// Words travel as UTF-8; each dictionary has an encoding of its own, and iconv goes between the two. A word
// that the dictionary's encoding cannot express is simply not in it: check() says False, the other methods
// return [].
#include <cohab/engine.h>

#include <algorithm>
#include <exception>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <cstdlib>

#include <hunspell.hxx>
#include <iconv.h>
#include <unistd.h>

namespace
{

using Words = std::vector<std::string>;

// One direction of conversion between two encodings.
class Converter
{
  public:
    Converter(const char *to, const char *from) : descriptor_(iconv_open(to, from))
    {
    }
    ~Converter()
    {
        if (valid())
            iconv_close(descriptor_);
    }
    Converter(const Converter &) = delete;
    Converter &operator=(const Converter &) = delete;

    bool valid() const
    {
        return descriptor_ != reinterpret_cast<iconv_t>(-1);
    }

    // Nothing if text is malformed, or cannot be expressed in the other encoding.
    std::optional<std::string> convert(std::string_view text)
    {
        std::string out(text.size() * 4 + 4,
                        '\0'); // no character takes more than four bytes in either encoding
        char *from = const_cast<char *>(text.data());
        char *to = out.data();
        size_t from_left = text.size();
        size_t to_left = out.size();
        iconv(descriptor_, nullptr, nullptr, nullptr, nullptr);
        if (iconv(descriptor_, &from, &from_left, &to, &to_left) != 0)
            return std::nullopt;
        out.resize(out.size() - to_left);
        return out;
    }

  private:
    iconv_t descriptor_;
};

// Hunspell's names of encodings are not all iconv's.
std::string iconv_name(const std::string &encoding)
{
    if (encoding.starts_with("microsoft-"))
        return encoding.substr(sizeof("microsoft-") - 1);
    if (encoding == "TIS620-2533")
        return "TIS-620";
    return encoding;
}

// In UTF-8: an ASCII letter, or any other character.
bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80);
}

struct Files {
    std::string aff;
    std::string dic;
};

// A loaded dictionary that takes and gives UTF-8.
class Dictionary
{
  public:
    explicit Dictionary(const Files &files)
        : files_(files), hunspell_(files.aff.c_str(), files.dic.c_str()),
          encoding_(hunspell_.get_dict_encoding()), encode_(iconv_name(encoding_).c_str(), "UTF-8"),
          decode_("UTF-8", iconv_name(encoding_).c_str())
    {
    }

    bool encoding_known() const
    {
        return encode_.valid() && decode_.valid();
    }
    const std::string &encoding() const
    {
        return encoding_;
    }
    const Files &files() const
    {
        return files_;
    }

    bool check(std::string_view word)
    {
        auto encoded = encode(word);
        return encoded && hunspell_.spell(*encoded);
    }
    Words suggest(std::string_view word)
    {
        auto encoded = encode(word);
        return encoded ? decode(hunspell_.suggest(*encoded)) : Words();
    }
    Words analyze(std::string_view word)
    {
        auto encoded = encode(word);
        return encoded ? decode(hunspell_.analyze(*encoded)) : Words();
    }
    Words stem(std::string_view word)
    {
        auto encoded = encode(word);
        return encoded ? decode(hunspell_.stem(*encoded)) : Words();
    }

    // A word of the .dic file that Hunspell accepts: the proof that the files were understood. Not every line
    // is one (some are only parts of compounds, some are forbidden), so the first thousand are tried. The
    // first line is a number, and Hunspell accepts numbers whatever the dictionary.
    std::optional<std::string> find_known_word()
    {
        std::ifstream file(files_.dic, std::ios::binary);
        std::string line;
        std::getline(file, line);
        for (int i = 0; i < 1000 && std::getline(file, line); i++) {
            auto word = decode_.convert(line.substr(0, line.find_first_of("/\t\r")));
            if (word && is_letter(word->c_str()[0]) && check(*word))
                return word;
        }
        return std::nullopt;
    }

  private:
    // What is empty, too long for Hunspell or has a NUL is in no dictionary; Hunspell's answers to it are
    // accidents. It takes XML for commands, one of which adds words: these are no words either.
    std::optional<std::string> encode(std::string_view word)
    {
        if (word.empty() || word.size() > 4 * MAXWORDLEN || word.find('\0') != word.npos ||
            word.starts_with("<?xml"))
            return std::nullopt;
        return encode_.convert(word);
    }
    Words decode(const Words &encoded)
    {
        Words words;
        for (const auto &word : encoded) {
            if (auto decoded = decode_.convert(word))
                words.push_back(std::move(*decoded));
        }
        return words;
    }

    Files files_;
    Hunspell hunspell_;
    std::string encoding_;
    Converter encode_;
    Converter decode_;
};

// --- Finding the dictionary's files ---

bool readable(const Files &files)
{
    return access(files.aff.c_str(), R_OK) == 0 && access(files.dic.c_str(), R_OK) == 0;
}

std::vector<std::string> search_directories()
{
    std::vector<std::string> directories;
    const char *variable = getenv("DICPATH");
    std::string_view left = variable ? variable : "";
    while (!left.empty()) {
        auto directory = left.substr(0, left.find(':'));
        if (!directory.empty())
            directories.emplace_back(directory);
        left.remove_prefix(std::min(left.size(), directory.size() + 1));
    }
    directories.emplace_back("/usr/share/hunspell");
    directories.emplace_back("/usr/share/myspell/dicts");
    return directories;
}

std::string join(const std::vector<std::string> &items)
{
    std::string joined;
    for (const auto &item : items)
        joined += (joined.empty() ? "" : ", ") + item;
    return joined;
}

// Debian's name for the package: en_US is in hunspell-en-us.
std::string package_of(const std::string &name)
{
    std::string package = "hunspell-";
    for (char c : name)
        package += c == '_' ? '-' : static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    return package;
}

std::optional<Files> files_of_path(cohab_setup *setup, std::string path)
{
    if (path.ends_with(".dic") || path.ends_with(".aff"))
        path.resize(path.size() - 4);
    Files files{path + ".aff", path + ".dic"};
    if (readable(files))
        return files;
    cohab_setup_fail(setup, "cannot read the dictionary: %s and %s are both needed", files.aff.c_str(),
                     files.dic.c_str());
    return std::nullopt;
}

std::optional<Files> files_of_name(cohab_setup *setup, const std::string &name)
{
    auto directories = search_directories();
    for (const auto &directory : directories) {
        Files files{directory + "/" + name + ".aff", directory + "/" + name + ".dic"};
        if (readable(files))
            return files;
    }
    cohab_setup_fail(setup, "no dictionary '%s' (%s.aff and %s.dic) in %s; on Debian: apt-get install %s",
                     name.c_str(), name.c_str(), name.c_str(), join(directories).c_str(),
                     package_of(name).c_str());
    return std::nullopt;
}

std::optional<Files> files_of_argument(cohab_setup *setup)
{
    const char *argument = cohab_setup_argv(setup, 0);
    if (cohab_setup_argc(setup) != 1 || *argument == '\0') {
        cohab_setup_fail(setup, "expected one argument, a dictionary's name or path: -- en_US");
        return std::nullopt;
    }
    std::string name = argument;
    return name.find('/') != name.npos ? files_of_path(setup, name) : files_of_name(setup, name);
}

// --- Hooks: no exception may leave them ---

int load_dictionary(cohab_setup *setup, void **state)
{
    auto files = files_of_argument(setup);
    if (!files)
        return -1;
    auto dictionary = std::make_unique<Dictionary>(*files);
    if (!dictionary->encoding_known())
        return cohab_setup_fail(setup, "%s: iconv does not know its encoding '%s'", files->aff.c_str(),
                                dictionary->encoding().c_str());
    if (!dictionary->find_known_word())
        return cohab_setup_fail(setup, "%s: not a dictionary that Hunspell understands, or an empty one",
                                files->dic.c_str());
    *state = dictionary.release();
    return 0;
}

// The whole way, once: a word that the dictionary lists is known, and the other methods answer.
int test_dictionary(cohab_setup *setup, Dictionary &dictionary)
{
    auto word = dictionary.find_known_word();
    if (!word || !dictionary.check(*word))
        return cohab_setup_fail(setup, "%s: none of its first words is known",
                                dictionary.files().dic.c_str());
    if (dictionary.stem(*word).empty())
        return cohab_setup_fail(setup, "%s: '%s' is known but has no stem", dictionary.files().dic.c_str(),
                                word->c_str());
    dictionary.suggest(*word);
    return 0;
}

int hook_load(cohab_setup *setup, void **state)
try {
    return load_dictionary(setup, state);
} catch (const std::exception &error) {
    return cohab_setup_fail(setup, "loading the dictionary: %s", error.what());
}

int hook_selftest(cohab_setup *setup, void *state)
try {
    return test_dictionary(setup, *static_cast<Dictionary *>(state));
} catch (const std::exception &error) {
    return cohab_setup_fail(setup, "testing the dictionary: %s", error.what());
}

// --- Methods ---

int return_words(cohab_call *call, const Words &words, size_t limit = SIZE_MAX)
{
    size_t count = std::min(words.size(), limit);
    msgpack_packer *result = cohab_result(call);
    msgpack_pack_array(result, count);
    for (size_t i = 0; i < count; i++)
        msgpack_pack_str_with_body(result, words[i].data(), words[i].size());
    return 0;
}

int parse_word(cohab_call *call, std::string_view &word)
{
    const char *text;
    size_t size;
    if (cohab_parse(call, "s#", &text, &size) != 0)
        return -1;
    word = {text, size};
    return 0;
}

int check(cohab_call *call, Dictionary &dictionary)
{
    std::string_view word;
    if (parse_word(call, word) != 0)
        return -1;
    return cohab_return(call, "p", static_cast<int>(dictionary.check(word)));
}

int suggest(cohab_call *call, Dictionary &dictionary)
{
    const char *text;
    size_t size;
    int64_t limit = 10;
    if (cohab_parse(call, "s#|L", &text, &size, &limit) != 0)
        return -1;
    if (limit < 0)
        return cohab_fail(call, COHAB_INVALID_ARGUMENT, "argument 2 'limit': expected 0 or more, got %lld",
                          static_cast<long long>(limit));
    return return_words(call, dictionary.suggest({text, size}), static_cast<size_t>(limit));
}

int analyze(cohab_call *call, Dictionary &dictionary)
{
    std::string_view word;
    if (parse_word(call, word) != 0)
        return -1;
    return return_words(call, dictionary.analyze(word));
}

int stem(cohab_call *call, Dictionary &dictionary)
{
    std::string_view word;
    if (parse_word(call, word) != 0)
        return -1;
    return return_words(call, dictionary.stem(word));
}

int check_all(cohab_call *call, Dictionary &dictionary)
{
    const msgpack_object *words;
    if (cohab_parse(call, "O", &words) != 0)
        return -1;
    const msgpack_object_array &array = words->via.array;
    msgpack_packer *result = cohab_result(call);
    msgpack_pack_array(result, array.size);
    for (uint32_t i = 0; i < array.size; i++) {
        if (cohab_cancelled(call))
            return cohab_fail(call, COHAB_CANCELLED,
                              "check_all ended after %u of %u words: nobody waits for it any more", i,
                              array.size);
        const msgpack_object_str &word = array.ptr[i].via.str;
        if (dictionary.check({word.ptr, word.size}))
            msgpack_pack_true(result);
        else
            msgpack_pack_false(result);
    }
    return 0;
}

int add(cohab_call *call, Dictionary &dictionary)
{
    return cohab_fail_reason(
        call, COHAB_FAILED_PRECONDITION, "NOT_SHARED",
        "add() is refused: workers do not share writes, so only the one that took this call would "
        "know the word; put it into %s and restart the server",
        dictionary.files().dic.c_str());
}

// What a method is in the engine's table: no exception may leave it.
template <int (*body)(cohab_call *, Dictionary &)> int method(cohab_call *call)
try {
    return body(call, *static_cast<Dictionary *>(cohab_state(call)));
} catch (const std::exception &error) {
    return cohab_fail(call, COHAB_INTERNAL, "%s", error.what());
}

const cohab_method methods[] = {
    {"check", method<check>, "check(word: str) -> bool", "Whether the word is spelt right.",
     COHAB_IDEMPOTENT},
    {"suggest", method<suggest>, "suggest(word: str, limit: int = 10) -> list[str]",
     "Words that may have been meant, the likeliest first; Hunspell finds 15 at most.", COHAB_IDEMPOTENT},
    {"analyze", method<analyze>, "analyze(word: str) -> list[str]",
     "The word's morphological analyses, as the dictionary writes them.", COHAB_IDEMPOTENT},
    {"stem", method<stem>, "stem(word: str) -> list[str]", "The word's stems; none if it is not known.",
     COHAB_IDEMPOTENT},
    {"check_all", method<check_all>, "check_all(words: list[str]) -> list[bool]",
     "check() for each of the words, in one call.", COHAB_IDEMPOTENT},
    {"add", method<add>, "add(word: str) -> None",
     "Refused: workers do not share writes. The error says what to do.", 0},
};

} // namespace

const struct cohab_engine cohab_engine = {
    COHAB_ENGINE_HEADER(methods),
    .name = "spell",
    .version = COHAB_VERSION,
    .load = hook_load,
    .start = nullptr,
    .stop = nullptr,
    .selftest = hook_selftest,
};
