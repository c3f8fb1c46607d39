mod expiring;
mod positions;
mod publishing;
mod reading;
mod repair;
mod route_keys;
mod streams;
mod users;
