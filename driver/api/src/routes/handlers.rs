//! One macro for each thing that can be done to a resource: the handler and its description. utoipa wants a function with
//! its path as a literal; what they do is in `resources`.

/// `GET` of the list.
macro_rules! list {
    ($rows:ty, $output:ty, $path:literal, $tag:literal) => {
        /// List, by id
        #[utoipa::path(get, path = $path, tag = $tag, operation_id = concat!("list_", $tag), params(ListQuery),
                    responses((status = 200, body = Page<$output>),
                        (status = "default", body = Problem, content_type = "application/problem+json")))]
        pub(super) async fn list_all(
            State(state): State<ApiState>,
            Parameters(query): Parameters<ListQuery>,
        ) -> Result<Json<Page<$output>>, Problem> {
            resources::list::<$rows>(&state, &query)
        }
    };
}

/// `POST` to the list.
macro_rules! create {
    ($rows:ty, $input:ty, $output:ty, $path:literal, $tag:literal) => {
        /// Make one
        #[utoipa::path(post, path = $path, tag = $tag, operation_id = concat!("create_", $tag), request_body = $input,
            responses((status = 201, body = $output),
                (status = "default", body = Problem, content_type = "application/problem+json")))]
        pub(super) async fn create_one(
            State(state): State<ApiState>,
            Editor(by): Editor,
            Body(input): Body<$input>,
        ) -> Result<Response, Problem> {
            resources::create::<$rows>(&state, input, by).await
        }
    };
}

/// `GET` of one.
macro_rules! get {
    ($rows:ty, $output:ty, $path:literal, $tag:literal) => {
        /// Read one
        #[utoipa::path(get, path = $path, tag = $tag, operation_id = concat!("get_", $tag),
                    params(("id" = String, Path)),
                    responses((status = 200, body = $output),
                        (status = "default", body = Problem, content_type = "application/problem+json")))]
        pub(super) async fn get_one(
            State(state): State<ApiState>,
            Segment(id): Segment,
        ) -> Result<Response, Problem> {
            resources::get::<$rows>(&state, &id)
        }
    };
}

/// `PUT` of one.
macro_rules! replace {
    ($rows:ty, $input:ty, $output:ty, $path:literal, $tag:literal) => {
        /// Change one: it becomes what is said here
        #[utoipa::path(put, path = $path, tag = $tag, operation_id = concat!("replace_", $tag), request_body = $input,
            params(("id" = String, Path), ("If-Match" = Option<String>, Header, pattern = "^([*]|\"[0-9]{1,19}\")$",
                description = "The ETag that was read")),
            responses((status = 200, body = $output),
                (status = "default", body = Problem, content_type = "application/problem+json")))]
        pub(super) async fn replace_one(
            State(state): State<ApiState>,
            Segment(id): Segment,
            IfMatch(expected): IfMatch,
            Editor(by): Editor,
            Body(input): Body<$input>,
        ) -> Result<Response, Problem> {
            resources::replace::<$rows>(&state, &id, expected, input, by).await
        }
    };
}

/// `DELETE` of one.
macro_rules! delete {
    ($rows:ty, $path:literal, $tag:literal) => {
        /// Remove one
        #[utoipa::path(delete, path = $path, tag = $tag, operation_id = concat!("delete_", $tag),
            params(("id" = String, Path), ("If-Match" = Option<String>, Header, pattern = "^([*]|\"[0-9]{1,19}\")$",
                description = "The ETag that was read")),
            responses((status = 204),
                (status = "default", body = Problem, content_type = "application/problem+json")))]
        pub(super) async fn delete_one(
            State(state): State<ApiState>,
            Segment(id): Segment,
            IfMatch(expected): IfMatch,
            Editor(by): Editor,
        ) -> Result<StatusCode, Problem> {
            resources::remove::<$rows>(&state, &id, expected, by).await
        }
    };
}

/// A module with the handlers of a resource.
macro_rules! handlers {
    ($($module:ident { $($macro:ident!($($argument:tt)*);)* })*) => {
        $(
            mod $module {
                use super::*;

                $($macro!($($argument)*);)*
            }
        )*
    };
}

pub(super) use {create, delete, get, handlers, list, replace};
