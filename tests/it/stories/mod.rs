//! The flows, told over real HTTP to the world.

mod apps;
mod audit;
mod author;
mod classes;
mod cut_points;
mod dispatch;
mod doctor;
mod forged;
mod formats;
mod placeholder;
mod reconcile;
mod secrecy;
mod webhook;
